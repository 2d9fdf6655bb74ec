"""multiprocessing: a Pool and a Process that keep blocks, each of which says what it has kept.

    pools.py fork|spawn|forkserver

Talks in lines: says {"ready": true}, then answers each word on its standard input with one line of JSON. "start" makes
the processes and says their pids; "work" makes them keep blocks and says how many each holds; "exit" ends them.
"""

import json
import multiprocessing
import os
import sys

WORKERS = 2
POOL_SIZE = 21_000
PROCESS_SIZE = 33_000
PROCESS_BLOCKS = 60
INHERITED_SIZE = 25_000
INHERITED = 30

KEPT = []
MADE = []


def keep(blocks, size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    KEPT.extend(bytearray(size - 1) for _ in range(blocks))


def meet(barrier):
    global BARRIER
    BARRIER = barrier


def pool_task(blocks):
    # Each worker has exactly one task: none starts a second before all have one.
    BARRIER.wait()
    MADE.clear()
    keep(blocks, POOL_SIZE)
    return {"pid": os.getpid(), "size": POOL_SIZE, "kept": len(KEPT)}


def pool_pid(_):
    BARRIER.wait()
    return os.getpid()


def process_body(pipe):
    pipe.recv()
    keep(PROCESS_BLOCKS, PROCESS_SIZE)
    pipe.send({"pid": os.getpid(), "size": PROCESS_SIZE, "kept": len(KEPT)})
    pipe.recv()


def say(**words):
    print(json.dumps(words), flush=True)


def main():
    context = multiprocessing.get_context(sys.argv[1])
    say(ready=True)
    for word in map(str.strip, sys.stdin):
        if word == "inherit":
            MADE.extend(bytearray(INHERITED_SIZE - 1) for _ in range(INHERITED))
            say(blocks=INHERITED, size=INHERITED_SIZE)
        elif word == "start":
            barrier = context.Barrier(WORKERS)
            pool = context.Pool(WORKERS, meet, (barrier,))
            near, far = context.Pipe()
            process = context.Process(target=process_body, args=(far,))
            process.start()
            pids = pool.map(pool_pid, range(WORKERS), chunksize=1)
            say(pids=pids + [process.pid])
        elif word == "work":
            workers = pool.map(pool_task, [40 * (index + 1) for index in range(WORKERS)], chunksize=1)
            near.send("work")
            say(workers=workers + [near.recv()])
        elif word == "exit":
            near.send("end")
            process.join()
            pool.close()
            pool.join()
            say(ended=True)
            return


if __name__ == "__main__":
    main()
