"""A deep stack of every kind of Python call; prints its own traceback, then waits.

Runs on CPython 3.8 and later. Two threads, one after the other, build the stack. Each prints one line of JSON:

    {"thread": "worker", "ident": <pthread_self>, "tid": <native id>, "fd": <the descriptor it now reads>,
     "frames": [[file, qualified name (name before 3.11), line], ...]}   innermost frame first

and then blocks in read(fd) on the very line that it reported. The main thread reads standard input: a byte, or
its end, lets the worker go and ends the program.
"""

import functools
import json
import os
import sys
import threading

WARM = 200  # calls after which 3.11+ has specialised a call site


def qualified(code):
    return getattr(code, "co_qualname", code.co_name)


def traceback(frame):
    frames = []
    while frame is not None:
        frames.append([frame.f_code.co_filename, qualified(frame.f_code), frame.f_lineno])
        frame = frame.f_back
    return frames


def report(name, fd, frame):
    line = json.dumps({
        "thread": name,
        "ident": threading.get_ident(),
        "tid": threading.get_native_id(),
        "fd": fd,
        "frames": traceback(frame),
    })
    os.write(1, line.encode() + b"\n")


def leaf(goal):
    if goal is None:
        return 0
    name, fd = goal
    report(name, fd, sys._getframe()), os.read(fd, 1)  # one line: what is reported is where it waits
    return 0


class Base:
    def __init__(self, goal):
        self.goal = goal
        self.total = self.compute


class Derived(Base):
    def __init__(self, goal):
        super().__init__(
            goal
        )

    @property
    def compute(self):
        return generators(self.goal)


def construct(goal):
    made = None
    for turn in range(WARM + 1):
        made = Derived(goal if turn == WARM else None)
    return made


def inner_generator(goal):
    yield 1
    yield long_function(goal) if goal else 2


def outer_generator(goal):
    yield 0
    yield from inner_generator(goal)


def generators(goal):
    if goal is None:
        return 0
    return sum(value or 0 for value in outer_generator(goal))


async def await_inner(goal):
    return comprehensions(goal)


async def await_outer(goal):
    result = await await_inner(goal)
    return result


def coroutines(goal):
    coroutine = await_outer(goal)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def comprehensions(goal):
    made = [
        [
            callbacks(goal) if column else 0
            for column in range(2)
        ]
        for _ in range(1)
    ]
    return {key: value for key, value in enumerate(made)}


def callbacks(goal):
    return sorted([1], key=lambda _: list(map(lambda _: partials(goal), [1]))[0] or 0)


def keyword_only(*args, goal, **options):
    return executed(goal)


partials = functools.partial(lambda goal: keyword_only(1, 2, **{"goal": goal, "other": 3}))


def executed(goal):
    source = "\n\ndef запуск(цель):\n    return (\n        далее(цель)\n    )\n\nитог = запуск(goal)\n"
    names = {"далее": recursion, "goal": goal}
    exec(compile(source, "/несуществующий/каталог/漢字-🐍.py", "exec"), names)
    return names["итог"]


def recursion(goal, depth=30):
    if depth == 0:
        return naïve_größe(goal)
    return recursion(goal, depth - 1)


def naïve_größe(goal):
    def закрытие():
        try:
            raise ValueError("expected")
        except ValueError:
            return decorated(goal)
        finally:
            goal and None

    return закрытие()


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **options):
        return function(
            *args,
            **options
        )

    return wrapper


@decorate
@decorate
def decorated(goal):
    return backwards(
        goal,
        1
    )


def backwards(goal, first):
    # The call's arguments lie on later lines than the call itself: the line goes back when it is made.
    return functools.reduce(
        lambda total, item: total + (
            leaf(
                item
            )
        ),
        [
            goal
        ],
        (first
         if first
         else 2),
    )


def define_long_function():
    lines = ["def long_function(goal):", "    x = 0"]
    lines += ["    x = x + (%d if x else 1)" % number for number in range(520)]
    lines += ["    coroutines(", "        goal", "    )"]
    lines += ["    x = x - 1"] * 20 + ["    return x"]
    exec(compile("\n".join(lines), "<generated>", "exec"), globals())


define_long_function()


def work(name, fd):
    construct((name, fd))


def main():
    wait, release = os.pipe()
    worker = threading.Thread(target=work, args=("worker", wait))
    worker.start()
    work("main", 0)
    os.write(release, b"x")
    worker.join()


if __name__ == "__main__":
    main()
