"""Memory that an allocator holds, made in known ways. Prints what glibc (null on musl) and pymalloc say of themselves, then
waits for a line and says it again: what is true before and after a look from outside."""

import ctypes
import json
import os
import random
import re
import sys
import tempfile
import threading

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free.restype = None
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.fdopen.restype = ctypes.c_void_p
GLIBC = hasattr(libc, "malloc_info")
if GLIBC:
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]

NAMES = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t if hasattr(libc, "mallinfo2") else ctypes.c_int) for name in NAMES]


def mallinfo():
    function = libc.mallinfo2 if hasattr(libc, "mallinfo2") else libc.mallinfo
    function.restype = Mallinfo
    info = function()
    return {name: getattr(info, name) for name in NAMES}


scratch = tempfile.TemporaryFile()
stream = libc.fdopen(os.dup(scratch.fileno()), b"w")


def written(write):
    """What `write` writes to the scratch file."""
    os.lseek(scratch.fileno(), 0, os.SEEK_SET)
    os.ftruncate(scratch.fileno(), 0)
    write()
    size = os.lseek(scratch.fileno(), 0, os.SEEK_END)
    return os.pread(scratch.fileno(), size, 0).decode()


def malloc_info():
    libc.malloc_info(0, stream)
    libc.fflush(stream)


def pool_statistics():
    saved = os.dup(2)
    os.dup2(scratch.fileno(), 2)
    sys._debugmallocstats()
    os.dup2(saved, 2)
    os.close(saved)


def arenas(text):
    """Each arena's free bytes. malloc_info adds up the bins' chunks with a flag bit in each, but not the top's."""
    found = []
    for heap in re.findall(r'<heap nr="\d+">(.*?)</heap>', text, re.S):
        # glibc 2.43 has no fast bins.
        totals = re.findall(r'<total type="(fast|rest)" count="(\d+)" size="(\d+)"', heap)
        count, free = [sum(int(total[at]) for total in totals if total[0] == "rest") for at in (1, 2)]
        fast = sum(int(total[2]) for total in totals if total[0] == "fast")
        system = int(re.search(r'<system type="current" size="(\d+)"', heap).group(1))
        found.append({"free": free - (count - 1) + fast, "fast": fast, "system": system})
    return found


def pools(text):
    number = lambda pattern: int(re.search(pattern, text).group(1).replace(",", ""))
    rows = re.findall(r"^ *(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", text, re.M)
    return {
        "classes": [[int(size), int(count), int(used), int(free)] for _, size, count, used, free in rows],
        "arenas": number(r"# arenas allocated current *= *([\d,]+)") if "allocated current" in text
        else number(r"# arenas currently allocated *= *([\d,]+)") if "currently allocated" in text
        else number(r"([\d,]+) arenas \* "),
        "unused_pools": number(r"([\d,]+) unused pools \*"),
        "live_bytes": number(r"# bytes in allocated blocks *= *([\d,]+)"),
        "free_bytes": number(r"# bytes in available blocks *= *([\d,]+)"),
    }


def report():
    try:
        counted = pools(written(pool_statistics))
    except (AttributeError, ValueError):
        counted = None
    each = arenas(written(malloc_info)) if GLIBC else []
    said = mallinfo() if GLIBC else None
    return {"glibc": said, "arenas": each, "pools": counted, "blocks": sys.getallocatedblocks()}


def say(value):
    # Not through print: a stream's buffer is malloc's too.
    os.write(1, (json.dumps(value) + "\n").encode())


def fragments(count, smallest, largest, seed=1):
    """Every other block of random sizes is given back."""
    chance = random.Random(seed)
    blocks = [libc.malloc(chance.randrange(smallest, largest)) for _ in range(count)]
    for block in blocks[::2]:
        libc.free(block)
    return blocks[1::2]


def fragmented():
    return fragments(int(os.environ.get("BLOCKS", "40000")), 100, 3000)


def many_arenas():
    ready = threading.Barrier(13)

    def work(number):
        kept = fragments(3000 + 100 * number, 20, 4000, number)
        # More than a heap holds.
        kept += [libc.malloc(100_000) for _ in range(900 if number == 0 else 3)]
        libc.free(kept.pop())
        ready.wait()
        threading.Event().wait()

    for number in range(12):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    ready.wait()


def untrimmed_top():
    libc.mallopt(-1, 1 << 30)
    blocks = [libc.malloc(100_000) for _ in range(500)]
    for block in blocks:
        libc.memset(block, 1, 100_000)
        libc.free(block)


def full_caches():
    for size in range(24, 1040, 16):
        for block in [libc.malloc(size) for _ in range(64)]:
            libc.free(block)


def fast_bins():
    """Blocks in the fast bins of a thread's arena: a thread that waits does not merge them."""
    ready = threading.Event()

    def work():
        blocks = [libc.malloc(24 + number % 64) for number in range(5000)]
        ends = [libc.malloc(5000)]
        for block in blocks[::2]:
            libc.free(block)
        ready.set()
        threading.Event().wait()

    threading.Thread(target=work, daemon=True).start()
    ready.wait()


def foreign_break():
    """Somebody else moves the program's break: the heap is in two pieces with a gap."""
    kept = fragments(2000, 100, 3000)
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    libc.sbrk(3 * 4096 + 64)
    return kept + fragments(4000, 100, 3000, 2)


def blocked_break():
    """A mapping stands in the way of the program's break: malloc goes on in mappings."""
    kept = fragments(2000, 100, 3000)
    libc.sbrk.restype = libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    after = (libc.sbrk(0) + 16 * 4096 - 1) // 4096 * 4096
    # MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE
    assert libc.mmap(after, 4096, 0, 0x100022, -1, 0) == after
    return kept + fragments(4000, 100, 3000, 2)


def settings():
    libc.mallopt(-8, 3)
    libc.mallopt(-1, 777_000)
    libc.mallopt(-3, 200_000)
    return [libc.malloc(5_000_000) for _ in range(5)]


def nothing():
    pass


def objects():
    kept = [[str(number) * (number % 20)] for number in range(int(os.environ.get("BLOCKS", "300000")))]
    lasting = [bytes(number % 400) for number in range(100_000)]
    del kept[: len(kept) // 2]
    return [kept, lasting[::3]]


def sub_interpreters():
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    name = interpreters.create()
    interpreters.run_string(name, "kept = [str(number) * 3 for number in range(50_000)]")
    return name


def busy():
    def work(seed):
        chance = random.Random(seed)
        blocks = [None] * 400
        while True:
            index = chance.randrange(400)
            if blocks[index] is not None:
                libc.free(blocks[index])
            blocks[index] = libc.malloc(chance.randrange(1, 9000))
            kept = [str(index)] * (index % 50)

    for seed in range(4):
        threading.Thread(target=work, args=(seed,), daemon=True).start()


made = globals()[sys.argv[1]]()
report()
report()
say(report())
while sys.stdin.buffer.raw.readline():
    say(report())
