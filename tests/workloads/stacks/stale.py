"""Code that is compiled, run once and dropped, so that code objects reuse addresses: in threads, and in a forked child.

Function N is `stale_N` of `stale_N.py`; it makes blocks of BASE + N * STEP bytes on its line N + 2.
"""

import json
import os
import sys
import threading

from told import write

BASE = 6_000_000
STEP = 1024
FUNCTIONS = 40
ROUNDS = 100
THREADS = 8


def rounds(first, base):
    for turn in range(ROUNDS):
        number = first + turn * 7 % FUNCTIONS
        names = {}
        source = "\n" * number + "def stale_%d():\n    return bytes(%d)\n" % (number, base + number * STEP)
        exec(compile(source, "stale_%d.py" % number, "exec"), names)
        names["stale_%d" % number]()


def say(base, count, made):
    write(json.dumps(
        {"kind": "stale", "base": base + sys.getsizeof(b""), "step": STEP, "count": count, "rounds": made}))


def in_threads():
    workers = [threading.Thread(target=rounds, args=(FUNCTIONS * thread, BASE)) for thread in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say(BASE, FUNCTIONS * THREADS, ROUNDS * THREADS)


class Child:
    """A process forked while it is traced; works when told, and lives as long as this one."""

    def __init__(self):
        self.told, tell = os.pipe()
        wait, self.go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(self.go)
            self.work(wait, tell)
        write(json.dumps({"kind": "child", "pid": pid}))

    def work(self, wait, tell):
        try:
            if os.read(wait, 1):
                rounds(0, 2 * BASE)
                os.write(tell, b"x")
                os.read(wait, 1)
        finally:
            os._exit(0)

    def finish(self):
        os.write(self.go, b"x")
        assert os.read(self.told, 1)
        say(2 * BASE, FUNCTIONS, ROUNDS)
