"""Threads and interpreters: Python's, and those that Python does not know."""

import json
import threading

from told import absent, keep, keep_raw, size, write

POOL_SIZE = 10_007
CALLS_SIZE = 20_011


def natives(path):
    try:
        import ctypes

        library = ctypes.CDLL(path)
    except (ImportError, OSError) as error:
        absent["native threads"] = str(error)
        return
    library.pool.argtypes = (ctypes.c_int,) + (ctypes.c_size_t,) * 3
    library.allocate.restype = ctypes.c_void_p
    library.allocate.argtypes = (ctypes.c_size_t,)
    callback = ctypes.CFUNCTYPE(None, ctypes.c_int)
    library.call_in_thread.argtypes = library.call_here.argtypes = (callback, ctypes.c_size_t)
    library.call_here.argtypes = (callback, ctypes.c_size_t)

    assert library.pool(8, 500, 25, POOL_SIZE) == 0
    native = 8 * 25

    def from_native_thread(number):
        if number == 0:
            keep("callback from a native thread", bytes(size()))
        else:
            keep("second callback from a native thread", bytes(size()))
            wanted = size()
            keep_raw("GIL released in a native thread's callback", wanted, library.allocate(wanted))

    assert library.call_in_thread(callback(from_native_thread), CALLS_SIZE) == 0
    write(json.dumps({"kind": "native", "blocks": [[native, POOL_SIZE], [3, CALLS_SIZE]]}))

    wanted = size()
    keep_raw("GIL released", wanted, library.allocate(wanted))
    wanted = size()
    keep_raw("GIL held", wanted, held_allocate(ctypes, path)(wanted))

    def here(_):
        keep("callback in the same thread", bytes(size()))

    def in_python_thread():
        wanted = size()
        keep_raw("GIL released in a thread", wanted, library.allocate(wanted))
        library.call_here(callback(here), 1000)

    worker = threading.Thread(target=in_python_thread)
    worker.start()
    worker.join()

    numbers = (ctypes.c_int * 2)(2, 1)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    asked = []

    def less(one, other):
        asked.append(keep("qsort's comparison", bytes(size()))) if not asked else None
        return one[0] - other[0]

    ctypes.CDLL(None).qsort(numbers, 2, 4, compare(less))


def held_allocate(ctypes, path):
    function = ctypes.PyDLL(path).allocate
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_size_t,)
    return function


def busy_threads():
    """Allocations of several threads at once, while others hold the GIL."""
    start = threading.Barrier(6)
    stop = threading.Event()

    def one():
        start.wait()
        keep("one of six threads", bytes(size()))

    def spin():
        start.wait()
        while not stop.is_set():
            pass

    def first():
        one()

    def second():
        [one() for _ in range(1)]

    def third():
        for _ in (one() for _ in range(1)):
            pass

    workers = [threading.Thread(target=target) for target in (first, second, third, spin, spin)]
    for worker in workers:
        worker.start()
    start.wait()
    for worker in workers[:3]:
        worker.join()
    stop.set()
    for worker in workers[3:]:
        worker.join()
    timer = threading.Timer(0.001, lambda: keep("threading.Timer", bytes(size())))
    timer.start()
    timer.join()


def numpy_threads():
    try:
        import numpy
    except Exception as error:  # noqa: BLE001 (an extension of another build fails in its own ways)
        absent["numpy"] = str(error).strip().splitlines()[0]
        return

    def fill():
        smaller, larger = size(), size()
        array, _ = numpy.empty(larger, numpy.uint8), keep_raw("numpy in a thread", larger, 1)
        kept.append((array, numpy.ones((300, 300)) @ numpy.ones((300, 300))))
        kept.append(array[:smaller].copy()), keep_raw("numpy's copy in a thread", smaller, 1)

    kept = []
    worker = threading.Thread(target=fill)
    worker.start()
    worker.join()
    KEPT.append(kept)


KEPT = []

IN_ANOTHER = '''
import json, os, sys
def trace(frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append([code.co_filename, getattr(code, "co_qualname", code.co_name), frame.f_lineno])
        frame = frame.f_back
    return frames
def say(situation, size, frames):
    os.write(1, json.dumps({"kind": "stack", "what": situation, "size": size, "frames": frames}).encode() + b"\\n")
def inside():
    return bytes(SIZE), trace(sys._getframe())
block, frames = inside()
say("WHAT", sys.getsizeof(block), frames)
def released(allocate):
    return allocate(SIZE + 16), trace(sys._getframe())
try:
    import ctypes
    allocate = ctypes.CDLL(PATH).allocate
    allocate.restype, allocate.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
except Exception as error:
    os.write(1, json.dumps({"kind": "absent", "what": "WHAT: GIL released", "why": str(error)}).encode() + b"\\n")
else:
    frames = released(allocate)[1]
    if sys.version_info >= (3, 12):
        say("WHAT: GIL released", SIZE + 16, frames)
    else:
        os.write(1, json.dumps({"kind": "untold", "what": "WHAT: GIL released", "size": SIZE + 16}).encode() + b"\\n")
def callback():
    def key(_):
        made.append((bytes(SIZE + 32), trace(sys._getframe())))
        return 0
    made = []
    sorted([1], key=key)
    return made[0]
block, frames = callback()
say("WHAT: callback", sys.getsizeof(block), frames)
'''


def in_another(situation, path):
    """Code that makes blocks of three sizes in another interpreter."""
    code = IN_ANOTHER.replace("SIZE", str(size())).replace("WHAT", situation).replace("PATH", repr(path))
    size()
    return code


def sub_interpreters(path):
    run, create = interpreters_api()
    if run is None:
        absent["sub-interpreters"] = "this build has no module for them"
        return

    def in_one(situation):
        run(create(), in_another(situation, path))
        keep(situation + ": after it", bytes(size()))

    in_one("sub-interpreter")
    again = create()
    run(again, in_another("sub-interpreter again", path))
    run(again, in_another("sub-interpreter once more", path))
    worker = threading.Thread(target=in_one, args=("sub-interpreter in a thread",))
    worker.start()
    worker.join()
    keep("with sub-interpreters about", bytes(size()))


def interpreters_api():
    try:
        import _interpreters as subs

        return subs.exec, subs.create
    except ImportError:
        pass
    try:
        import _xxsubinterpreters as subs

        return subs.run_string, subs.create
    except ImportError:
        return None, None


def concurrent_interpreters(path):
    try:
        from concurrent import interpreters
        from concurrent.futures import InterpreterPoolExecutor
    except ImportError:
        absent["concurrent.interpreters"] = "since 3.14"
        return
    interpreters.create().exec(in_another("concurrent.interpreters", path))
    with InterpreterPoolExecutor(1) as pool:
        pool.submit(exec, in_another("interpreter pool", path), {}).result()


def everything(path):
    natives(path)
    busy_threads()
    numpy_threads()
    sub_interpreters(path)
    concurrent_interpreters(path)
