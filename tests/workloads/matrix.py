"""Allocations whose stacks, names and bytes are known, on any CPython from 3.8 to 3.15.

Prints "ready" and waits for a line. Then allocates, printing one JSON object a line:

    {"kind": "stack", "size": bytes, "frames": [[file, qualified name, line], ...]}   one block of a size of its own
    {"kind": "many", "function": name, "count": n, "size": bytes}                     n blocks, by one function
    {"kind": "churn", "function": name, "made": n, "kept": n, "size": bytes}          n blocks made, some of them kept
    {"kind": "grown", "function": name, "size": bytes}                                one block that has grown to a size
    {"kind": "stale", "base": bytes, "step": bytes, "count": n, "rounds": n}          code compiled and dropped
    {"kind": "small", "function": name, "count": n, "size": bytes}                    objects of up to 512 bytes, kept

and "done" when all is held, and waits for the end of its input. A size is what the allocator is asked for.
"""

import array
import asyncio
import concurrent.futures
import json
import sys
import threading

import nested

BASE = 3_000_000  # sizes of single blocks: no other block of this program has one of them
STEP = 64
STALE_BASE = 5_000_000
STALE_STEP = 1024
STALE = 40
STALE_ROUNDS = 400

held = []
sizes = iter(range(BASE, STALE_BASE, STEP))
lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def keep(block):
    """Called on the very line that made the block: the caller's frames are the block's."""
    held.append(block)
    say(kind="stack", size=sys.getsizeof(block), frames=nested.traceback(sys._getframe(1)))
    return 0


def size():
    return next(sizes)


def leaf(goal):
    return keep(bytes(size())) if goal is not None else 0


class Made:
    def __init__(self, goal):
        self.got = keep(bytes(size())) if goal else None

    @property
    def proper(self):
        return keep(bytes(size()))

    @classmethod
    def of_class(cls):
        return keep(bytes(size()))

    def __getattr__(self, name):
        return keep(bytes(size()))

    def __enter__(self):
        keep(bytes(size()))

    def __exit__(self, *_):
        keep(bytes(size()))


class Meta(type):
    def __call__(cls, *arguments):
        keep(bytes(size()))
        return super().__call__(*arguments)


class WithMeta(metaclass=Meta):
    def __new__(cls):
        keep(bytes(size()))
        return super().__new__(cls)


def generator():
    yield 0
    yield keep(bytes(size()))


def delegating():
    yield from generator()


async def agenerator():
    yield keep(bytes(size()))


async def awaited():
    await asyncio.sleep(0)
    keep(bytes(size()))
    return [item async for item in agenerator()]


async def gathered():
    await asyncio.gather(awaited(), asyncio.sleep(0))


def handlers():
    try:
        raise KeyError(keep(bytes(size())))
    except KeyError:
        keep(bytes(size()))
    finally:
        keep(bytes(size()))


def warm():
    for turn in range(nested.WARM + 1):
        Made(turn == nested.WARM)


def kinds():
    warm()
    made = Made(None)
    made.proper, made.missing, Made.of_class(), WithMeta()
    with made:
        pass
    list(delegating())
    [keep(bytes(size())) for _ in range(1)]
    {key: keep(bytes(size())) for key in range(1)}
    sum(keep(bytes(size())) for _ in range(1))
    sorted([1], key=lambda _: keep(bytes(size())))
    eval("keep(bytes(size()))")
    handlers()
    asyncio.run(gathered())


IN_ANOTHER = '''
import json, os, sys
def trace(frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append([code.co_filename, getattr(code, "co_qualname", code.co_name), frame.f_lineno])
        frame = frame.f_back
    return frames
def inside():
    return bytes(%d), trace(sys._getframe())
block, frames = inside()
line = json.dumps({"kind": "stack", "size": sys.getsizeof(block), "frames": frames})
os.write(1, line.encode() + b"\\n")
'''


def sub_interpreter():
    """Where this build can make one: its code allocates and reports."""
    code = IN_ANOTHER % size()
    try:
        import _interpreters as subs

        subs.exec(subs.create(), code)
    except ImportError:
        try:
            import _xxsubinterpreters as subs
        except ImportError:
            return
        subs.run_string(subs.create(), code)


def deep(depth):
    return keep(bytes(size())) if depth == 0 else deep(depth - 1)


def many_big():
    made = [bytes(700_001) for _ in range(37)]
    return made


def many_medium():
    made = []
    for _ in range(1000):
        made.append(bytes(5000))
    return made


def churn():
    kept = []
    for turn in range(3000):
        block = bytes(6000)
        if turn % 100 == 0:
            kept.append(block)
    return kept


def grown():
    numbers = array.array("q")
    for number in range(300_000):
        numbers.append(number)
    return numbers


def small_objects():
    return [bytes(100) for _ in range(100_000)]


def stale():
    for turn in range(STALE_ROUNDS):
        number = turn * 7 % STALE
        names = {}
        source = "\n" * number + "def stale_%d():\n    return bytes(%d)\n" % (number, STALE_BASE + number * STALE_STEP)
        exec(compile(source, "stale_%d.py" % number, "exec"), names)
        block = names["stale_%d" % number]()
        if turn == 0:
            say(kind="stale", base=sys.getsizeof(block), step=STALE_STEP, count=STALE, rounds=STALE_ROUNDS)


def main():
    nested.leaf = leaf
    print("ready", flush=True)
    sys.stdin.readline()
    kinds()
    deep(60)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: keep(bytes(size()))).result()
    nested.construct(("main", 0))
    for target in (kinds, lambda: nested.construct(("worker", 0))):
        worker = threading.Thread(target=target)
        worker.start()
        worker.join()
    sub_interpreter()
    stale()
    for function in (many_big, many_medium):
        held.append(function())
        say(kind="many", function=function.__name__, count=len(held[-1]), size=sys.getsizeof(held[-1][0]))
    held.append(churn())
    say(kind="churn", function="churn", made=3000, kept=len(held[-1]), size=sys.getsizeof(held[-1][0]))
    held.append(grown())
    say(kind="grown", function="grown", size=sys.getsizeof(held[-1]) - sys.getsizeof(array.array("q")))
    held.append(small_objects())
    say(kind="small", function="small_objects", count=len(held[-1]), size=sys.getsizeof(held[-1][0]))
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
