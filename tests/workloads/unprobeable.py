"""A process in which the kernel sets no probe: python unprobeable.py [probeable | launched]

Its code is mapped writable, as by programs that patch themselves; the kernel sets uprobes in code that cannot be
written to alone. Says when it is ready, waits for a line, touches memory, and says which function touched how much.
"""

import ctypes
import json
import mmap
import os
import sys
import time

MIB = 1 << 20
PROT_READ_WRITE_EXEC = 7
KEPT = []


def say(**words):
    print(json.dumps(words), flush=True)


def make_code_writable():
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/maps") as lines:
        regions = [line.split() for line in lines]
    for region in regions:
        if region[1].startswith("r-x") and len(region) > 5 and region[5].startswith("/"):
            start, end = (int(address, 16) for address in region[0].split("-"))
            if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), PROT_READ_WRITE_EXEC) != 0:
                sys.exit("mprotect: " + os.strerror(ctypes.get_errno()))


def fill(size):
    KEPT.append(b"x" * size)


def touch(size):
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    KEPT.append(mapped)
    for at in range(0, size, mmap.PAGESIZE):
        mapped[at] = 1


def launched():
    """Its input is nobody's: it is told to begin and to end by files."""
    wait_for("begin")
    fill(24 * MIB)
    touch(16 * MIB)
    wait_for("enough")
    os._exit(7)


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


def main():
    if sys.argv[1:] == ["launched"]:
        launched()
    if sys.argv[1:] != ["probeable"]:
        make_code_writable()
    say(ready=True)
    while sys.stdin.readline() == "go\n":
        fill(24 * MIB)
        touch(16 * MIB)
        say(touched={"fill": 24 * MIB, "touch": 16 * MIB})


main()
