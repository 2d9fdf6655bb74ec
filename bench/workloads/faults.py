"""Does nothing but fault: `faults.py KIND MIB ROUNDS [DEPTH]`. Maps memory, touches each page, unmaps it.

KIND is `fill` (numpy's loop in C, page after page), `scatter` (numpy's, in random order), `python` (a loop in Python).
DEPTH Python frames are on the stack meanwhile.
"""

import mmap
import sys

import numpy

PAGE = 4096


def fill(memory, bytes_):
    numpy.frombuffer(memory, dtype="uint8").fill(1)


def scatter(memory, bytes_):
    pages = numpy.frombuffer(memory, dtype="uint8")[::PAGE]
    pages[ORDER] = 1


def python(memory, bytes_):
    for at in range(0, bytes_, PAGE):
        memory[at] = 1


def rounds(touch, bytes_, number):
    for _ in range(number):
        memory = mmap.mmap(-1, bytes_, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        touch(memory, bytes_)
        memory.close()


def deep(depth, *work):
    if depth <= 1:
        rounds(*work)
    else:
        deep(depth - 1, *work)


kind, mib, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
depth = int(sys.argv[4]) if len(sys.argv) > 4 else 1
ORDER = numpy.random.default_rng(1).permutation((mib << 20) // PAGE)
deep(depth, {"fill": fill, "scatter": scatter, "python": python}[kind], mib << 20, number)
