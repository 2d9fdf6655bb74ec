"""Code that the interpreter itself calls in the middle of other code's work."""

import functools
import gc
import pickle
import re
import signal
import sys
import types
import weakref

from told import absent, held, keep, size


def handler(*_):
    keep("signal handler", bytes(size()))


def signal_handlers():
    signal.signal(signal.SIGUSR1, handler)
    signal.raise_signal(signal.SIGUSR1)
    keep("after a signal", bytes(size()))

    def in_a_loop(*_):
        keep("signal in a generator", bytes(size()))
        handler()

    signal.signal(signal.SIGUSR2, in_a_loop)
    for _ in (signal.raise_signal(signal.SIGUSR2) for _ in range(1)):
        pass


class Finalized:
    def __init__(self, situation):
        self.situation = situation
        self.me = self

    def __del__(self):
        keep(self.situation, bytes(size()))


class Plain:
    pass


def destructors():
    one = Finalized("__del__ by del")
    one.me = None
    del one
    other = Finalized("__del__ by a new value")
    other.me = None
    other = [None]
    Finalized("__del__ by gc.collect")
    gc.collect()
    plain = Plain()
    reference = weakref.ref(plain, lambda _: keep("weakref callback", bytes(size())))
    del plain
    plain = Plain()
    plain.me = plain
    second = weakref.ref(plain, lambda _: keep("weakref callback by gc", bytes(size())))
    del plain
    gc.collect()
    weakref.finalize(Plain(), lambda: keep("weakref.finalize", bytes(size())))
    return reference, second, other


def allocating(flag):
    """The collector runs in the middle of what this function allocates."""
    made = []
    for turn in range(200_000):
        made.append([turn])
        if flag:
            return True
    return False


def collector_in_the_middle():
    flag = []

    class Late:
        def __init__(self):
            self.me = self

        def __del__(self):
            flag.append(keep("__del__ in another function's allocation", bytes(size())))

    thresholds = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    Late()
    if not allocating(flag):
        absent["__del__ in another function's allocation"] = "the collector did not run by itself"
    gc.set_threshold(*thresholds)

    def phase(name, _):
        if name == "start":
            keep("gc callback", bytes(size()))

    gc.callbacks.append(phase)
    gc.collect()
    gc.callbacks.remove(phase)


def suspended():
    try:
        yield 1
    finally:
        keep("generator closed by del", bytes(size()))


def suspended_in_cycle(cell):
    try:
        yield cell
    finally:
        keep("generator closed by gc", bytes(size()))


def generators():
    one = suspended()
    next(one)
    del one
    cell = []
    other = suspended_in_cycle(cell)
    cell.append(next(other))
    cell.append(other)
    del cell, other
    gc.collect()

    def thrown():
        try:
            yield
        except KeyError:
            keep("generator.throw", bytes(size()))
            yield

    generator = thrown()
    next(generator)
    generator.throw(KeyError())

    def delegated():
        yield from thrown()

    generator = delegated()
    next(generator)
    generator.throw(KeyError())


def traced_function():
    first = 1
    second = first + 1
    return second


def traced_generator():
    yield 1
    yield 2


def tracing():
    seen = set()

    def tracer(frame, event, _):
        if (event, frame.f_lineno) not in seen and frame.f_code.co_name.startswith("traced_"):
            seen.add((event, frame.f_lineno))
            if len(seen) == 1:
                keep("settrace", bytes(size()))
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    traced_function()
    keep("while traced", bytes(size()))
    sys.settrace(before)

    def lines(frame, event, _):
        if event == "line" and frame.f_lineno == frame.f_code.co_firstlineno + 2:
            keep("settrace on a line", bytes(size()))
        if event == "return":
            keep("settrace on a return", bytes(size()))
        return lines if frame.f_code is traced_function.__code__ else None

    sys.settrace(lines)
    traced_function()
    sys.settrace(before)

    def profiler(frame, event, argument):
        if frame.f_code is traced_function.__code__:
            keep("setprofile: " + event, bytes(size()))
        if event == "c_call" and argument is len:
            keep("setprofile: c_call", bytes(size()))

    sys.setprofile(profiler)
    traced_function()
    len("abc")
    keep("while profiled", bytes(size()))
    sys.setprofile(None)


def monitoring():
    names = ["PY_START", "LINE", "PY_RETURN", "CALL", "INSTRUCTION"]
    if not hasattr(sys, "monitoring"):
        absent["sys.monitoring"] = "since 3.12"
        return
    tool = sys.monitoring
    tool.use_tool_id(3, "stacks")
    for name in names:
        event = getattr(tool.events, name)
        seen = []

        def callback(*_, seen=seen, name=name):
            if not seen:
                seen.append(keep("sys.monitoring: " + name, bytes(size())))

        tool.register_callback(3, event, callback)
        tool.set_local_events(3, traced_calls.__code__, event)
        traced_calls()
        keep("while monitored: " + name, bytes(size()))
        tool.set_local_events(3, traced_calls.__code__, 0)
        tool.register_callback(3, event, None)
    tool.free_tool_id(3)


def traced_calls():
    first = len("abc")
    return traced_function() + first


class Failing(Exception):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        keep("exception's __init__", bytes(size()))

    def __str__(self):
        keep("exception's __str__", bytes(size()))
        return "text"


def raising(depth):
    if depth == 0:
        raise Failing(1)
    raising(depth - 1)


def exceptions():
    try:
        raising(10)
    except Failing as failure:
        keep("handler of a deep exception", bytes(size()))
        str(failure)
        try:
            raise ValueError from failure
        except ValueError:
            keep("handler of a chained exception", bytes(size()))
        finally:
            keep("finally", bytes(size()))

    class Manager:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            keep("__exit__ with an exception", bytes(size()))
            return True

    with Manager():
        [][1]
    keep("after a swallowed exception", bytes(size()))
    namespace = {"keep": keep, "size": size}
    if sys.version_info >= (3, 11):
        exec(compile(
            "def group():\n    try:\n        raise ExceptionGroup('', [KeyError(), ValueError()])\n"
            "    except* KeyError:\n        keep('except*', bytes(size()))\n"
            "    except* ValueError:\n        keep('second except*', bytes(size()))\ngroup()\n", "group.py", "exec"), namespace)

    class Unraisable:
        def __del__(self):
            raise KeyError

    sys.unraisablehook, hook = lambda _: keep("sys.unraisablehook", bytes(size())), sys.unraisablehook
    unraisable = Unraisable()
    del unraisable
    sys.unraisablehook = hook


def deep(depth):
    return keep("recursion of %d" % sys.getrecursionlimit(), bytes(size())) if depth == 0 else deep(depth - 1)


def recursion():
    before = sys.getrecursionlimit()
    for limit, depth in ((400, 200), (1000, 700), (5000, 4000)):
        sys.setrecursionlimit(limit)
        deep(depth)
    sys.setrecursionlimit(before)


def huge_functions():
    """More code than 16 bits can count, and line tables larger than what is copied in the kernel."""
    for lines in (9_000, 30_000):
        body = "    x = x + 1\n" * lines
        source = "def huge():\n    x = 0\n%s    keep('function of %d lines', bytes(size()))\n" % (body, lines)
        source += "    x = (\n        x,\n        keep('late in a function of %d lines', bytes(size())),\n    )\n" % lines
        names = {"keep": keep, "size": size}
        exec(compile(source, "huge.py", "exec"), names)
        names["huge"]()


HOSTILE = {
    "empty": "",
    "zero bytes": "\0a\0",
    "escapes": "\x1b[31mred\x1b[0m\r\n\tline two\x7f\x85\x9b",
    "markers": "[native thread, no Python stack]",
    "folded": "a;b c 1",
    "markup": "<script>alert(1)</script>&amp;\"'",
    "bidirectional": "\u202egnp.\u2066",
    "surrogates": "a\udcff\udc80z",
    "latin": "é" * 300,
    "two bytes": "名" * 5000,
    "four bytes": "🐍" * 300,
    "long": "x" * 200_000,
    "path": "../../../../etc/passwd",
}


def named():
    return _keep(_situation, bytes(_size()))


def hostile_names():
    for situation, text in HOSTILE.items():
        changes = {"co_name": text, "co_filename": text}
        if sys.version_info >= (3, 11):
            changes["co_qualname"] = text
        code = named.__code__.replace(**changes)
        held.append(code)  # long names are read after the block was made
        names = {"_keep": keep, "_size": size, "_situation": "hostile name: " + situation, "bytes": bytes}
        types.FunctionType(code, names)()
    code = compile("_keep('huge first line', bytes(_size()))", "lines.py", "exec").replace(co_firstlineno=2_000_000_000)
    exec(code, {"_keep": keep, "_size": size})


class Special:
    def __hash__(self):
        return keep("__hash__", bytes(size()))

    def __eq__(self, other):
        keep("__eq__", bytes(size()))
        return self is other

    def __format__(self, _):
        keep("__format__", bytes(size()))
        return ""

    def __reduce__(self):
        keep("__reduce__", bytes(size()))
        return (int, ())

    def __init_subclass__(cls):
        keep("__init_subclass__", bytes(size()))

    def __class_getitem__(cls, _):
        keep("__class_getitem__", bytes(size()))

    def __iter__(self):
        keep("__iter__", bytes(size()))
        yield keep("iterator's next", bytes(size()))

    def __getattribute__(self, name):
        if name == "attribute":
            return keep("__getattribute__", bytes(size()))
        return object.__getattribute__(self, name)

    def __len__(self):
        keep("__len__", bytes(size()))
        return 1

    def __bytes__(self):
        keep("__bytes__", bytes(size()))
        return b""


class Descriptor:
    def __set_name__(self, owner, name):
        keep("__set_name__", bytes(size()))

    def __get__(self, instance, owner):
        return keep("__get__", bytes(size()))


def called_by_c():
    special = Special()
    made = {special: 1}
    [Special()] == [special]
    "{}".format(special)
    pickle.dumps(special)

    class Sub(Special):
        keep("class body", bytes(size()))

        class Inner:
            keep("nested class body", bytes(size()))

        described = Descriptor()

    Sub[int]
    Sub().described
    first, = special
    special.attribute
    bool(special)
    bytes(special)
    re.sub("a", lambda _: str(keep("re.sub", bytes(size()))), "a")
    functools.lru_cache()(lambda: keep("lru_cache", bytes(size())))()
    max([1, 2], key=lambda number: keep("max", bytes(size())) if number == 2 else 0)
    print(end="", file=types.SimpleNamespace(write=lambda _: keep("print", bytes(size()))))
    match = types.ModuleType("match")
    match.__getattr__ = lambda name: keep("module's __getattr__", bytes(size()))
    match.missing
    return made, first


IMPORTED = "from told import keep, size\nkeep('import', bytes(size()))\n"


def imports(folder):
    import os

    with open(os.path.join(folder, "stacks_imported.py"), "w") as file:
        file.write(IMPORTED)
    sys.path.insert(0, folder)
    import stacks_imported  # noqa: F401

    sys.path.remove(folder)


def everything(folder):
    for function in (
        signal_handlers, destructors, collector_in_the_middle, generators, tracing, monitoring, exceptions, recursion,
        huge_functions, hostile_names, called_by_c,
    ):
        function()
    imports(folder)
