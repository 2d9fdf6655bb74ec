"""What the target says of its own blocks: kept until the end, so that saying it allocates nothing in between."""

import os
import sys

from nested import qualified

BASE = 3_000_000  # sizes of single blocks: no other block of the program has one of them
STEP = 64

held = []
stacks = []  # (situation, size, frames)
absent = {}  # situation: why this build or machine cannot have it

sizes = iter(range(BASE, BASE + (2 << 20), STEP))


def size():
    return next(sizes)


def printable(text):
    """With lone surrogates, which no JSON reader takes, as Python prints them."""
    return "".join("\\u%04x" % ord(c) if 0xD800 <= ord(c) < 0xE000 else c for c in text)


def traceback(frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append([printable(code.co_filename), printable(qualified(code)), frame.f_lineno])
        frame = frame.f_back
    return frames


def keep(situation, block):
    """Called on the very line that made the block: the caller's frames are the block's."""
    held.append(block)
    stacks.append((situation, sys.getsizeof(block), traceback(sys._getframe(1))))
    return 0


def keep_raw(situation, number, block):
    """As `keep`, for a block of the C allocator that is no Python object; `block` is its address."""
    assert block
    stacks.append((situation, number, traceback(sys._getframe(1))))
    return 0


def write(line):
    """Past buffers and locks, which a signal handler or a destructor may find taken."""
    data = line.encode() + b"\n"
    while data:
        data = data[os.write(1, data):]
