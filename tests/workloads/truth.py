"""Allocates known blocks by known functions on known lines, and prints what it did.

    truth.py SECTION...

The talk: it prints {"ready": true}, waits for a line, does its work, prints its truth as one line of JSON, waits for
a line, and ends. A row of the truth is {"section", "ledger", "function", "line", "alloc_objects", "alloc_space",
"inuse_objects", "inuse_space"}: blocks of the C allocator in the heap ledger, or mappings of one "origin".

How large a block is for an object of a known size, on CPython 3.11 to 3.13 (a block over 512 bytes is malloc's):
bytes and str: all of sys.getsizeof. bytearray(n): its buffer, n + 1 when made and what `ob_alloc` says when grown:
getsizeof less the object's own. list: 8 bytes an item allocated: getsizeof less an empty list's. dict: its keys:
getsizeof less an empty dict's.
"""

import ctypes
import gc
import itertools
import json
import mmap
import os
import sys
import tempfile
import threading

KEEP = {}
ROWS = []
ARENA_OF_SMALL = 512  # bytes; a larger block is the C allocator's


def here():
    return sys._getframe(1).f_lineno


def row(section, line, allocated, kept, ledger="blocks", **more):
    """`allocated` and `kept` are sizes of blocks."""
    ROWS.append({
        "section": section,
        "ledger": ledger,
        "function": sys._getframe(1).f_code.co_qualname,
        "line": line,
        "alloc_objects": len(allocated),
        "alloc_space": sum(allocated),
        "inuse_objects": len(kept),
        "inuse_space": sum(kept),
        **more,
    })


def half(section, keep, line, size, function):
    """Gives every other block back, and writes the row of the function that made them."""
    allocated = [size(item) for item in keep]
    for index in range(0, len(keep), 2):
        keep[index] = None
    kept = [size(item) for item in keep if item is not None]
    KEEP[section, line] = keep
    row(section, line, allocated, kept)
    ROWS[-1]["function"] = function


def beyond(container):
    """The size of a container's buffer."""
    return sys.getsizeof(container) - sys.getsizeof(type(container)())


# --- one kind of object each


def repeated_bytes():
    keep = [None] * 30
    line = here() + 2
    for index in range(30):
        keep[index] = b"x" * (1000 + index)
    half("bytes", keep, line, sys.getsizeof, "repeated_bytes")


def zeroed_bytes():
    keep = [None] * 30
    line = here() + 2
    for index in range(30):
        keep[index] = bytes(2000 + index)
    half("bytes", keep, line, sys.getsizeof, "zeroed_bytes")


def strings():
    keep = [None] * 30
    line = here() + 2
    for index in range(30):
        keep[index] = "ä" * (900 + index)
    half("str", keep, line, sys.getsizeof, "strings")


def bytearrays():
    keep = [None] * 40
    line = here() + 2
    for index in range(40):
        keep[index] = bytearray(5000 + index)
    assert beyond(keep[7]) == 5008
    half("bytearray", keep, line, beyond, "bytearrays")


def lists():
    keep = [None] * 20
    line = here() + 2
    for index in range(20):
        keep[index] = [None] * (1000 + index)
    half("list", keep, line, beyond, "lists")


class Owner:
    class Nested:
        @staticmethod
        def in_a_method():
            keep = [None] * 3
            line = here() + 2
            for index in range(3):
                keep[index] = bytearray(70000)
            half("bytearray", keep, line, beyond, "Owner.Nested.in_a_method")


def grown(section, function, container, line, sizes):
    """A container that grew through these sizes of its buffer; the last is still there."""
    blocks = [size for size, _ in itertools.groupby(sizes) if size > ARENA_OF_SMALL]
    assert len(blocks) > 3
    KEEP[section, line] = container
    row(section, line, blocks, blocks[-1:])
    ROWS[-1]["function"] = function


def appended():
    made, sizes = [], [0] * 20000
    line = here() + 2
    for index in range(20000):
        made.append(None)
        sizes[index] = beyond(made)
    grown("growth", "appended", made, line, sizes)


def concatenated():
    made, sizes, chunk = bytearray(), [0] * 3000, b"x" * 77
    line = here() + 2
    for index in range(3000):
        made += chunk
        sizes[index] = beyond(made)
    grown("growth", "concatenated", made, line, sizes)


def filled_dict():
    made, sizes, keys = {}, [0] * 5000, [str(index) for index in range(5000)]
    line = here() + 2
    for index in range(5000):
        made[keys[index]] = None
        sizes[index] = beyond(made)
    grown("growth", "filled_dict", made, line, sizes)


def objects():
    repeated_bytes()
    zeroed_bytes()
    strings()
    bytearrays()
    lists()
    Owner.Nested.in_a_method()
    appended()
    concatenated()
    filled_dict()


# --- the C allocator called directly: PyDLL holds the GIL, CDLL releases it


class Libc:
    def __init__(self, library):
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name, arguments in {
            "malloc": [size],
            "calloc": [size, size],
            "realloc": [pointer, size],
            "reallocarray": [pointer, size, size],
            "aligned_alloc": [size, size],
            "memalign": [size, size],
        }.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, pointer
            setattr(self, name, function)
        self.posix_memalign = library.posix_memalign
        self.posix_memalign.argtypes = [ctypes.POINTER(pointer), size, size]
        self.free = library.free
        self.free.argtypes, self.free.restype = [pointer], None


def direct_calls(libc, section):
    keep = []
    out = ctypes.c_void_p()
    line = here()
    first = libc.malloc(5000)
    second = libc.calloc(100, 60)
    third = libc.realloc(first, 9000)
    fourth = libc.reallocarray(None, 100, 70)
    libc.posix_memalign(ctypes.byref(out), 4096, 10000)
    fifth = libc.aligned_alloc(64, 64000)
    sixth = libc.memalign(64, 6000)
    seventh = libc.realloc(None, 1234)
    eighth = libc.realloc(libc.malloc(4321), 0)
    refused = libc.malloc(1 << 60)
    libc.free(second)
    libc.free(None)
    assert eighth is None and refused is None
    keep += [third, fourth, out.value, fifth, sixth, seventh]
    KEEP[section, "direct"] = keep
    row(section, line + 1, [5000], [])
    row(section, line + 2, [6000], [])
    row(section, line + 3, [9000], [9000])
    row(section, line + 4, [7000], [7000])
    row(section, line + 5, [10000], [10000])
    row(section, line + 6, [64000], [64000])
    row(section, line + 7, [6000], [6000])
    row(section, line + 8, [1234], [1234])
    row(section, line + 9, [4321], [])
    row(section, line + 10, [], [])


# --- threads


def in_threads(target, *arguments):
    threads = [threading.Thread(target=target, args=(index, *arguments)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


LINES = {}


def with_gil(number, keep, barrier):
    barrier.wait()
    LINES["with_gil"] = here() + 2
    for index in range(number, 400, 4):
        keep[index] = bytearray(3000 + index)


def without_gil(number, keep, libc, barrier):
    barrier.wait()
    LINES["without_gil"] = here() + 2
    for index in range(number, 400, 4):
        keep[index] = libc.malloc(4000 + index)
        if index % 3 == 0:
            libc.free(keep[index])


def allocator_thread(number, keep):
    LINES["allocator_thread"] = here() + 2
    for index in range(number, 200, 4):
        keep[index] = bytearray(6000 + index)


def threads():
    keep = [None] * 400
    in_threads(with_gil, keep, threading.Barrier(4))
    sizes = [beyond(item) for item in keep]
    KEEP["with_gil"] = keep
    row("threads with the GIL", LINES["with_gil"], sizes, sizes)
    ROWS[-1]["function"] = "with_gil"

    pointers = [None] * 400
    in_threads(without_gil, pointers, FREE_LIBC, threading.Barrier(4))
    sizes = [4000 + index for index in range(400)]
    row("threads without the GIL", LINES["without_gil"], sizes, [n for n in sizes if (n - 4000) % 3])
    ROWS[-1]["function"] = "without_gil"

    given = [None] * 200
    in_threads(allocator_thread, given)
    sizes = [beyond(item) for item in given]
    given.clear()  # by this thread, not by those that made them
    row("freed by another thread", LINES["allocator_thread"], sizes, [])
    ROWS[-1]["function"] = "allocator_thread"


class Early(threading.Thread):
    """Started before pyalloc is attached; works after."""

    def __init__(self):
        super().__init__(daemon=True)
        self.go, self.done, self.keep = threading.Event(), threading.Event(), [None] * 20
        self.start()

    def run(self):
        self.go.wait()
        self.work()
        self.done.set()

    def work(self):
        line = here() + 2
        for index in range(20):
            self.keep[index] = bytearray(8000 + index)
        sizes = [beyond(item) for item in self.keep]
        row("a thread from before", line, sizes, sizes)


# --- blocks from before


class Before:
    """Blocks made before pyalloc is attached; a launched program's are seen from the start."""

    def __init__(self, launched):
        self.launched = launched
        self.keep = [None] * 25
        self.line = here() + 2
        for index in range(25):
            self.keep[index] = bytearray(150000 + index)
        self.small = bytearray(50000)

    def after(self):
        sizes = [beyond(item) for item in self.keep]
        self.keep.clear()
        row("from before", self.line, sizes if self.launched else [], [])
        ROWS[-1]["function"] = "Before.__init__"
        line = here() + 1
        self.small += b"x" * 50000
        row("from before", line, [beyond(self.small), sys.getsizeof(b"x" * 50000)], [beyond(self.small)])


# --- a byte once: a block that the C allocator takes from the kernel


def page_up(size):
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def large_block():
    line = here() + 1
    KEEP["large"] = bytearray(8 << 20)
    row("once", line, [(8 << 20) + 1], [(8 << 20) + 1])
    # glibc: a header of 16 bytes, in whole pages.
    mapped = page_up((8 << 20) + 1 + 16)
    row("once", line, [mapped], [mapped], "mappings", origin="allocator_mmap")


# --- the mapping ledger


def mappings():
    keep = [None] * 10
    line = here() + 2
    for index in range(10):
        keep[index] = mmap.mmap(-1, 100000 * (index + 1))
    for index in range(0, 10, 2):
        keep[index].close()
    KEEP["mappings"] = keep
    sizes = [page_up(100000 * (index + 1)) for index in range(10)]
    row("anonymous", line, sizes, sizes[1::2], "mappings", origin="anonymous")
    row("anonymous", line, [], [], "mappings", origin="file")


def mapped_file():
    with tempfile.TemporaryFile() as file:
        file.truncate(300000)
        line = here() + 1
        KEEP["mapped_file"] = mmap.mmap(file.fileno(), 300000)
    row("file", line, [page_up(300000)], [page_up(300000)], "mappings", origin="file")


def heap_bytes():
    """The size of the heap that brk gives."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[heap]"):
                start, end = line.split()[0].split("-")
                return int(end, 16) - int(start, 16)
    return 0


# --- small objects: what lives in pymalloc's pools, by the function that made it

SMALL = 20000  # objects


class Point:
    __slots__ = ("x", "y", "z", "w", "v")


def small_bytes(keep, letter):
    for _ in itertools.repeat(None, SMALL):
        keep.append(letter * 200)


def small_floats(keep, number):
    for _ in itertools.repeat(None, SMALL):
        keep.append(number * 0.5)


def small_tuples(keep, item):
    for _ in itertools.repeat(None, SMALL):
        keep.append((item, item, item))


def small_instances(keep, _):
    for _ in itertools.repeat(None, SMALL):
        keep.append(Point())


def small_strings(keep, letter):
    for _ in itertools.repeat(None, SMALL):
        keep.append(letter * 100)


KINDS = [(small_bytes, b"x"), (small_floats, 3.0), (small_tuples, None), (small_instances, None), (small_strings, "x")]


def fill_open_pools():
    """Pools of these sizes that were opened earlier have no room after this: the next object opens one."""
    keep = KEEP["filled"] = []
    for _ in range(3000):
        letter, number, item, text = b"x", 3.0, None, "x"
        keep.append((letter * 200, number * 0.5, (item, item, item), Point(), text * 100))


def small_objects(pools):
    for make, seed in KINDS:
        keep = KEEP[make.__name__] = [None]
        make(keep, seed)
        size = -(-sys.getsizeof(keep[-1]) // 16) * 16
        pools.append({
            "function": make.__name__,
            "size_class": size,
            "inuse_objects": SMALL,
            "inuse_space": SMALL * size,
        })


# --- what an extension and numpy do


def extension():
    import blocks

    line = here()
    blocks.hold("malloc", 30, 7000)
    blocks.hold("calloc", 20, 6000)
    blocks.hold("realloc", 10, 5000)
    blocks.hold("posix_memalign", 10, 4096)
    blocks.release(5)
    row("extension", line + 1, [7000] * 30, [7000] * 30)
    row("extension", line + 2, [6000] * 20, [6000] * 20)
    # Each is malloc(size / 2), then realloc(size): the first half is given back.
    row("extension", line + 3, [2500, 5000] * 10, [5000] * 10)
    row("extension", line + 4, [4096] * 10, [4096] * 5)


def numpy_empty(numpy):
    keep = [None] * 20
    line = here() + 2
    for index in range(20):
        keep[index] = numpy.empty(10000 + index, dtype=numpy.float64)
    large = [item.nbytes for item in keep]
    for index in range(0, 20, 2):
        keep[index] = None
    KEEP["numpy_empty"] = keep
    row("numpy", line, large, large[1::2], "blocks over 512")


def numpy_zeros(numpy):
    keep = [None] * 20
    line = here() + 2
    for index in range(20):
        keep[index] = numpy.zeros((100, 50 + index), dtype=numpy.int32)
    large = [item.nbytes for item in keep]
    KEEP["numpy_zeros"] = keep
    row("numpy", line, large, large, "blocks over 512")


def numpy_resized(numpy):
    array = numpy.empty(5000)
    line = here() + 1
    array.resize(20000, refcheck=False)
    KEEP["numpy_resized"] = array
    row("numpy", line, [160000], [160000], "blocks over 512")


def numpy_arrays(numpy):
    numpy_empty(numpy)
    numpy_zeros(numpy)
    numpy_resized(numpy)


FREE_LIBC = Libc(ctypes.CDLL(None))
HELD_LIBC = Libc(ctypes.PyDLL(None))


def main(launched, sections):
    gc.disable()
    early = Early() if "threads" in sections else None
    before = Before(launched) if "before" in sections else None
    KEEP["early"], KEEP["before"] = early, before  # to the very end, beyond this function's
    numpy = __import__("numpy") if "numpy" in sections else None
    pools = []
    if "small" in sections:
        fill_open_pools()
    heap_before = heap_bytes()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()

    if "once" in sections:  # first: giving back a large block changes what the C allocator takes from the kernel
        large_block()
    if "small" in sections:
        small_objects(pools)
    if "objects" in sections:
        objects()
    if "libc" in sections:
        direct_calls(HELD_LIBC, "libc with the GIL")
        direct_calls(FREE_LIBC, "libc without the GIL")
    if "threads" in sections:
        threads()
        early.go.set()
        early.done.wait()
    if "before" in sections:
        before.after()
    if "mappings" in sections:
        mappings()
        mapped_file()
    if "extension" in sections:
        extension()
    if "numpy" in sections:
        numpy_arrays(numpy)

    heap = heap_bytes() - heap_before
    print(json.dumps({"rows": merged(), "pools": pools, "heap_growth": heap, "unmatched": 25 if before else 0}), flush=True)
    sys.stdin.readline()


def merged():
    """Rows of one place as one: a place may have been run through twice."""
    places = {}
    for one in ROWS:
        place = one["ledger"], one["function"], one["line"], one.get("origin")
        seen = places.setdefault(place, one)
        if seen is not one:
            for sum_of in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"):
                seen[sum_of] += one[sum_of]
    return list(places.values())


if __name__ == "__main__":
    main(sys.argv[1] == "launched", set(sys.argv[2:]))
