"""Processes of known composition: python resident.py SCENE

Says when it is ready, waits for a line, changes what it holds, and says by how many bytes each part of its resident
memory changed, and which function touched the pages.
"""

import ctypes
import gc
import io
import json
import mmap
import os
import random
import sys
import tempfile
import threading

PAGE = mmap.PAGESIZE
MIB = 1 << 20
IN_TURNS = 48 * MIB
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


def in_turns(pages=IN_TURNS // PAGE):
    """Two functions touch pages of one mapping in turns, without any order, one in four the first one's."""
    memory = private(pages * PAGE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    touched = {"seldom": 0, "often": 0}
    for at in range(0, pages * PAGE, PAGE):
        toucher = seldom if random.random() < 0.25 else often
        toucher(memory, at)
        touched[toucher.__name__] += PAGE
    return {"other": pages * PAGE}, touched


def in_turns_twice():
    """The same, and then all pages are given back to the kernel and touched anew by somebody else."""
    in_turns()
    KEPT[-1].madvise(mmap.MADV_DONTNEED)
    touch(KEPT[-1])
    return {"other": IN_TURNS}, {"touch": IN_TURNS, "seldom": 0, "often": 0}


def few_in_turns():
    return in_turns(400)


def seldom(memory, at):
    memory[at] = 1


def often(memory, at):
    memory[at] = 1


def given_back():
    """Memory that is given back to the kernel at its leisure: half of it."""
    mapped = private(40 * MIB)
    touch(mapped)
    LIBC.madvise(address_of(mapped), 20 * MIB, 8)  # MADV_FREE
    return {"other": of_smaps(mapped, "Rss")}, {"touch": of_smaps(mapped, "Rss")}, of_smaps(mapped, "LazyFree")


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


def huge_in_part():
    """Huge pages again, where one byte in 2 MiB is written: the rest of each comes with it."""
    mapped = private(40 * MIB)
    LIBC.madvise(address_of(mapped), 40 * MIB, 14)  # MADV_HUGEPAGE
    before = of_smaps(mapped, "Rss")
    touch(mapped, 2 * MIB)
    KEPT.append(of_smaps(mapped, "AnonHugePages"))
    came = of_smaps(mapped, "Rss") - before
    return {"other": came}, {"touch": came}, KEPT[-1] > 0


def swapped():
    """Memory that the kernel is asked to write to swap."""
    mapped = private(40 * MIB)
    touch(mapped)
    LIBC.madvise(address_of(mapped), 40 * MIB, 21)  # MADV_PAGEOUT
    return {"other": of_smaps(mapped, "Rss")}, {}, of_smaps(mapped, "Swap")


def of_smaps(mapped, name):
    """Bytes that /proc says of the mapping, whose first line starts with its address."""
    address = address_of(mapped)
    inside, value = False, 0
    with open("/proc/self/smaps") as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                inside = start <= address < end
            elif inside and words[0] == name + ":":
                value += int(words[1]) * 1024
    return value


def numpy_array():
    """What one function allocates another fills."""
    filled = make_array()
    fill_array(filled)
    KEPT.append(filled)
    return {"live": 40 * MIB}, {"fill_array": 40 * MIB}


def make_array():
    return numpy.empty(40 * MIB, dtype="u1")


def fill_array(empty):
    empty[:] = 1


def before_numpy_array():
    global numpy
    import numpy  # noqa: PLC0415

    fill_array(numpy.empty(1, dtype="u1"))


def parsed():
    """A text that is parsed: objects of many sizes."""
    KEPT.append(json.loads(DOCUMENT))
    return {}, {}


def before_parsed():
    global DOCUMENT
    rows = [{"id": n, "name": f"name {n}", "tags": [f"tag {n % 7}", n * 0.5]} for n in range(60_000)]
    DOCUMENT = json.dumps(rows)


def frames():
    """A table that pandas reads."""
    KEPT.append(pandas.read_csv(io.StringIO(TABLE)))
    return {}, {}


def before_frames():
    global pandas, TABLE
    import pandas  # noqa: PLC0415

    row = "%d,%f,name %d,2024-01-%02d\n"
    head = "id,price,name,day\n"
    pandas.read_csv(io.StringIO(head + row % (1, 0.5, 1, 1)))
    TABLE = head + "".join(row % (n, n * 0.37, n % 5000, n % 28 + 1) for n in range(400_000))


def pictures():
    """Pictures that pillow scales."""
    KEPT.append([picture.resize((1400, 900)) for picture in PICTURES])
    return {}, {}


def before_pictures():
    global PICTURES
    from PIL import Image  # noqa: PLC0415

    PICTURES = [Image.new("RGB", (300, 200), (n, 80, 120)) for n in range(8)]
    PICTURES[0].resize((20, 20))


def growing():
    """Blocks that move while they grow, over and over, until told to stop: the last four stay."""
    stop = threading.Event()

    def listen():
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=listen).start()
    kept = []
    while not stop.is_set():
        kept.append(grow())
        del kept[:-4]
    KEPT.append(kept)
    return {"live": sum(map(len, kept))}, {"grow": sum(map(len, kept))}


def grow():
    grown = bytearray()
    for _ in range(64):
        grown.extend(CHUNK)
    return grown


CHUNK = b"x" * (MIB // 8)


class Node:
    """An object with a header of the garbage collector, and nothing else that is written."""

    __slots__ = ("other",)


def before_growing():
    LIBC.mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD: fixed, so that a large block stays a mapping of its own


def before_collect():
    KEPT.append([Node() for _ in range(600_000)])
    gc.collect()


def before_collect_frozen():
    before_collect()
    gc.freeze()


def before_iterate():
    KEPT.append([bytes(200) for _ in range(150_000)])
    gc.collect()
    gc.freeze()


def before_write():
    KEPT.append(bytearray(b"x") * (32 * MIB))
    gc.collect()
    gc.freeze()


def collect():
    gc.collect()
    return {"gc_header": 600_000 * block(KEPT[0][0])}


def collect_frozen():
    gc.collect()
    return {}


def iterate():
    for _each in KEPT[0]:
        pass
    return {"reference_count": 150_000 * block(KEPT[0][0])}


def write():
    touch(KEPT[0])
    return {"data": 32 * MIB}


FORKING = {"collect", "collect_frozen", "iterate", "write"}


def forked(scene):
    """The scene in a child that has its parent's memory. It is told to start when it is traced."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        say(unshared=scene())
        os.read(told, 1)
        os._exit(0)
    say(pid=child)
    sys.stdin.readline()
    os.write(tell, b"x")
    sys.stdin.readline()
    os.close(tell)
    os.waitpid(child, 0)


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
    if sys.argv[1] in FORKING:
        return forked(scene)
    parts, touched, *more = scene()
    say(parts=parts, touched=touched, more=int(more[0]) if more else 0)
    sys.stdin.readline()


main()
