"""Allocates blocks of known sizes deep in known stacks, and tells its own traceback at each.

Prints {"ready": true}, waits for a line, works, prints [{"size", "frames": [[file, qualified name, line], ...]}, ...]
(frames innermost first), waits for a line, ends. The stacks are those of `nested.py`, with an allocation at their end
where that one waits, and some more.
"""

import asyncio
import contextlib
import json
import sys
import threading

import nested

HELD = []
FIRST_SIZE = 200_000


def leaf(goal):
    if goal is not None:
        # One line: what is told is where it is allocated.
        HELD.append((nested.traceback(sys._getframe()), bytearray(FIRST_SIZE + 1000 * len(HELD))))
    return 0


nested.leaf = leaf


def deep(levels):
    if levels == 0:
        leaf("deep")
    else:
        deep(levels - 1)


class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args)


class Made(metaclass=Meta):
    def __new__(cls, goal):
        made = super().__new__(cls)
        made.goal = goal
        return made

    def __init__(self, goal):
        self[goal]

    def __getitem__(self, goal):
        with self.held(goal):
            pass

    @staticmethod
    @contextlib.contextmanager
    def held(goal):
        try:
            yield
        finally:
            leaf(
                goal
            )


async def numbers(goal):
    for number in range(3):
        await asyncio.sleep(0)
        yield number, (leaf(goal) if number == 2 else None)


async def consume(goal):
    found = [number async for number, _ in numbers(goal) if number >= 0]
    async with asyncio.timeout(60):
        await asyncio.gather(later(goal), asyncio.to_thread(leaf, goal))
    return found


async def later(goal):
    await asyncio.sleep(0)
    (lambda: {key: [leaf(goal) for _ in (1,)] for key in "a"})()


class Äußeres:
    class 内部:
        def größe(self, λ):
            exec(compile("\n" * 40 + "def ƒ(x):\n  return leaf(\n    x\n  )\nƒ(λ)", "/ナシ/ƒ.py", "exec"), {"leaf": leaf, "λ": λ})


def main():
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    nested.work("main", 0)
    worker = threading.Thread(target=nested.work, args=("worker", 0))
    worker.start()
    worker.join()
    Made("made")
    asyncio.run(consume("asyncio"))
    Äußeres.内部().größe("name")
    deep(30)
    deep(490)
    deep(600)
    print(json.dumps([{"size": len(block) + 1, "frames": frames} for frames, block in HELD]), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
