"""Two paths in one size class: one makes and drops objects all the time, one keeps some of them. Does it each time it is
told to go, and then says how many have been kept; ends when told to end.

    fillers.py KIND CHURN [--batch N] [--step N] [--seconds S] [--thread]
"""

import argparse
import json
import sys
import threading
import time


class Record:
    __slots__ = ("first", "second", "third", "fourth")

    def __init__(self, first):
        self.first = first
        self.second = self.third = self.fourth = None


MAKERS = {
    "slots": (lambda number: Record(None), 64),
    "tuple": (lambda number: (number, None, None), 64),
    "string": (lambda number: "%040d" % number, 96),
    "bytes": (lambda number: b"%030d" % number, 64),
    "float": (lambda number: number + 0.5, 32),
    "dict": (lambda number: {"number": None}, 64),
    "list": (lambda number: [None], 64),
}


def churn(make, held, count, batch):
    for number in range(count):
        held.append(make(number))
        if len(held) >= batch:
            held.clear()


def retain(make, kept, count):
    for number in range(count):
        kept.append(make(number))


class Keeper:
    """Keeps in a thread of its own, when told."""

    def __init__(self, make, kept):
        self.told, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.count = 0
        threading.Thread(target=self.serve, args=(make, kept), daemon=True).start()

    def serve(self, make, kept):
        while True:
            self.told.acquire()
            retain(make, kept, self.count)
            self.done.release()

    def keep(self, count):
        self.count = count
        self.told.release()
        self.done.acquire()


def work(make, kept, options):
    keep = Keeper(make, kept).keep if options.thread else lambda count: retain(make, kept, count)
    held = []
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        churn(make, held, options.churn * options.step, options.batch)
        keep(options.step)
    held.clear()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=MAKERS)
    parser.add_argument("churn", type=int, help="made and dropped for each that is kept")
    parser.add_argument("--batch", type=int, default=1, help="of the dropped ones so many are held at once")
    parser.add_argument("--step", type=int, default=1, help="kept in one go")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--thread", action="store_true", help="the one that keeps is another thread")
    options = parser.parse_args()
    make, size = MAKERS[options.kind]
    kept = []
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line != "go\n":
            break
        work(make, kept, options)
        print(json.dumps({"kept": len(kept), "size": size}), flush=True)


main()
