"""A forked child that makes code, runs it once and drops it, from its first instruction on.

Function N is `stale_N` of `stale_N.py`, and maps (FIRST + N) pages. All are alike but for their names' digits, so that
each finds its parts where those of its predecessor were.

Prints "ready" and waits for a line; forks; the child works, prints its pid, waits for a line, works again, prints "done",
and waits for the end of its input.
"""

import mmap
import os

FIRST = 1000
FUNCTIONS = 40
ROUNDS = 200


def rounds():
    for turn in range(ROUNDS):
        number = turn * 7 % FUNCTIONS
        names = {"mmap": mmap.mmap, "size": (FIRST + number) * mmap.PAGESIZE}
        exec(compile("def stale_%02d():\n    mmap(-1, size)\n" % number, "stale_%02d.py" % number, "exec"), names)
        # No circle: it dies as soon as it has been called.
        names.pop("stale_%02d" % number)()


def child():
    rounds()
    os.write(1, b"%d\n" % os.getpid())
    os.read(0, 100)
    rounds()
    os.write(1, b"done\n")
    while os.read(0, 100):
        pass


def main():
    os.write(1, b"ready\n")
    os.read(0, 100)
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
