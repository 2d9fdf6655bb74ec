"""A supervisor that answers load with more processes: one more every two seconds, each with its own lookup table."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["work", "make_lookup", "worker"]
# corpus: seconds = 14
# corpus: python = "3.12"

import multiprocessing
import os
import time

import kit


def make_lookup():
    return {number: str(number) * 3 for number in range(50_000)}


def work(stop):
    lookup = make_lookup()
    while not stop.wait(0.05):
        lookup.get(77)


def main():
    stop = multiprocessing.Event()
    workers = [multiprocessing.Process(target=work, args=(stop,), daemon=True)]
    workers[0].start()
    kit.wait_until_steady(os.getpid())
    kit.ready()
    while len(workers) < 12:
        time.sleep(2)
        workers.append(multiprocessing.Process(target=work, args=(stop,), daemon=True))
        workers[-1].start()
    kit.idle()


if __name__ == "__main__":
    main()
