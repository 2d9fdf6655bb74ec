"""A process that is going to be killed: keeps blocks by function, and writes its own count before each of them.

The truth is in a file mapped into memory, so that it outlives any kill: three u64, the objects kept by hoard(), cache()
and small(). It is written before the allocation: what is live is that, or one less in the function that was at it.

Talks in lines: says {"ready": true}, then acts on each word on its standard input:
  grow N        N rounds, then {"rounds": N}
  until killed  rounds without end
  segfault, abort
  worker GROUP  forks one that joins the control group GROUP (a folder) and grows until it is killed: {"pid": P} at once,
                {"killed": SIGNAL} when it is
  exit
"""

import ctypes
import json
import mmap
import os
import sys

HOARD_SIZE = 100_000
CACHE_SIZE = 20_000
# 433 bytes with its header: a pool's block of 448.
SMALL_LENGTH = 400
SMALL_A_ROUND = 20

KEPT, CACHED, SMALLS = [], [], []
TRUTH = None


def count(index):
    TRUTH[index] += 1


def hoard():
    count(0)
    KEPT.append(bytearray(b"x") * (HOARD_SIZE - 1))


def cache():
    count(1)
    CACHED.append(bytearray(b"x") * (CACHE_SIZE - 1))


def small():
    for _ in range(SMALL_A_ROUND):
        count(2)
        SMALLS.append(bytes(SMALL_LENGTH))


def churn():
    return len(bytearray(b"x") * 50_000)


def grow():
    hoard()
    cache()
    small()
    churn()


def say(**words):
    print(json.dumps(words), flush=True)


def work_in(group):
    with open(os.path.join(group, "cgroup.procs"), "w") as file:
        file.write(str(os.getpid()))
    while True:
        grow()


def main():
    global TRUTH
    with open(sys.argv[1], "r+b") as file:
        TRUTH = memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")
    say(ready=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "grow":
            for _ in range(int(rest)):
                grow()
            say(rounds=int(rest))
        elif word == "until":
            while True:
                grow()
        elif word == "segfault":
            ctypes.string_at(1)
        elif word == "abort":
            os.abort()
        elif word == "worker":
            told, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(told, 1)
                work_in(rest)
            say(pid=pid)
            sys.stdin.readline()
            os.write(tell, b"x")
            say(killed=os.WTERMSIG(os.waitpid(pid, 0)[1]))
        elif word == "exit":
            return


main()
