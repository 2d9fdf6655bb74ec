"""Processes of known composition: python resident.py SCENE

Says when it is ready, waits for a line, changes what it holds, and says by how many bytes each part of its resident
memory changed, and which function touched the pages.
"""

import ctypes
import json
import mmap
import os
import sys
import tempfile
import threading

PAGE = mmap.PAGESIZE
MIB = 1 << 20
KEPT = []


def say(**words):
    print(json.dumps(words), flush=True)


def touch(memory, step=PAGE):
    for at in range(0, len(memory), step):
        memory[at] = 1


def blocks(number, size):
    return [bytes(size) for _ in range(number)]


def live():
    """Blocks that stay."""
    KEPT.append(blocks(20_000, 3000))
    return {"live": 20_000 * 3000}, {"blocks": 20_000 * 3000}


def held():
    """Blocks that go again but for a few, which keep the heap from shrinking."""
    made = blocks(20_000, 3000)
    KEPT.append(made[::50])
    KEPT.append(bytes(3000))
    del made
    return {"live": 400 * 3000, "held": 20_000 * 3000 - 400 * 3000}, {"blocks": 20_000 * 3000}


def held_by_threads():
    """The same in four threads at once, each with an arena of its own."""
    meeting = threading.Barrier(4)

    def work():
        meeting.wait()
        # Raw blocks: the GIL is not held, so that the allocator gives the threads arenas of their own.
        made = [LIBC.malloc(3000) for _ in range(5000)]
        for block in made:
            LIBC.memset(block, 1, 3000)
        meeting.wait()
        KEPT.append(made[::50])
        for place, block in enumerate(made):
            if place % 50:
                LIBC.free(block)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"live": 400 * 3000, "held": 4 * 4900 * 3000}, {"held_by_threads.<locals>.work": 4 * 5000 * 3000}


def objects():
    """Small objects that stay."""
    KEPT.append([(number,) for number in range(300_000)])
    space = 300_000 * (block((1,)) + block(1000) + 8)
    return {"live": space}, {"objects": space}


def objects_held():
    """Small objects that go again but for one in a hundred, so that no pool is free."""
    made = [bytes(200) for _ in range(200_000)]
    KEPT.append(made[::50])
    del made
    size = block(bytes(200))
    return {"live": 4000 * size, "held": 196_000 * size}, {"objects_held": 200_000 * size}


def block(small):
    """Bytes of the block that a small object lies in, the collector's header included."""
    return -(-sys.getsizeof(small) // 16) * 16


def file():
    """Pages of a file, read by mapping it."""
    with tempfile.NamedTemporaryFile(dir=os.environ.get("RESIDENT_FOLDER")) as written:
        written.write(bytes(40 * MIB))
        written.flush()
        mapped = mmap.mmap(written.fileno(), 40 * MIB, prot=mmap.PROT_READ)
        KEPT.append(mapped)
        read_pages(mapped)
    return {"files": 40 * MIB}, {"read_pages": 40 * MIB}


def read_pages(mapped):
    return sum(mapped[at] for at in range(0, len(mapped), PAGE))


def partial():
    """Memory that is mapped whole and touched in part."""
    mapped = private(80 * MIB)
    touch(mapped[:0] or memoryview(mapped)[: 40 * MIB])
    return {"other": 40 * MIB}, {"touch": 40 * MIB}


def read_only_zeroes():
    """Memory that is only read is the page of zeroes, and not resident."""
    mapped = private(40 * MIB)
    read_pages(mapped)
    touch(memoryview(mapped)[: 8 * MIB])
    return {"other": 8 * MIB}, {"touch": 8 * MIB}


def huge():
    """Huge pages: one fault brings 2 MiB."""
    mapped = private(40 * MIB)
    LIBC.madvise(address_of(mapped), 40 * MIB, 14)  # MADV_HUGEPAGE
    touch(mapped)
    return {"other": 40 * MIB}, {"touch": 40 * MIB}


def kernel():
    """A buffer that only the kernel writes to: read() of a file."""
    with tempfile.TemporaryFile(dir=os.environ.get("RESIDENT_FOLDER")) as written:
        written.write(b"x" * (40 * MIB))
        written.seek(0)
        KEPT.append(read_file(written))
    return {"live": 40 * MIB}, {"read_file": 40 * MIB}


def read_file(written):
    return os.read(written.fileno(), 40 * MIB)


def shared():
    """Shared memory."""
    mapped = mmap.mmap(-1, 40 * MIB)
    KEPT.append(mapped)
    touch(mapped)
    return {"shared": 40 * MIB}, {"touch": 40 * MIB}


def shrink():
    """Memory from before that is given back: to the kernel, and to the allocator only."""
    KEPT.clear()
    return {"live": -20_000 * 3000, "held": 20_000 * 3000, "other": -32 * MIB}, {}


def before_shrink():
    keep_from_before = blocks(20_000, 3000)
    KEPT.append(keep_from_before)
    mapped = private(32 * MIB)
    touch(mapped)


def moved():
    """A block that grows by moving keeps who touched it."""
    grown = bytearray()
    for _ in range(40):
        grown.extend(b"x" * MIB)
    KEPT.append(grown)
    return {"live": len(grown)}, {"moved": len(grown)}


def private(size):
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    KEPT.append(mapped)
    return mapped


def address_of(mapped):
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def main():
    scene = globals()[sys.argv[1]]
    before = globals().get("before_" + sys.argv[1])
    if before:
        before()
    say(ready=True)
    sys.stdin.readline()
    parts, touched = scene()
    say(parts=parts, touched=touched)
    sys.stdin.readline()


main()
