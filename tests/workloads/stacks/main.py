"""Blocks made in every situation that changes what a thread's Python stack is, on any CPython from 3.8 to 3.15.

    main.py NATIVES [PACKAGES]     the shared library made of natives.c; a folder to import packages from

Prints "ready" and waits for a line. Then allocates, and prints one JSON object a line:

    {"kind": "stack", "what": situation, "size": bytes, "frames": [[file, qualified name, line], ...]}
    {"kind": "native", "blocks": [[count, size], ...]}     blocks made by threads that have no Python stack, and kept
    {"kind": "untold", "what": situation, "size": bytes}   a block of a thread that has states in several interpreters, of
                                                           which the one that runs cannot be told (before 3.12)
    {"kind": "stale", "base": bytes, "step": bytes, "count": n, "rounds": n}    see stale.py
    {"kind": "child", "pid": pid}   forked: a line is wanted when its probes stand
    {"kind": "absent", "what": situation, "why": reason}   what this build or machine cannot have

and "done" when all is held, and waits for the end of its input. A size is what the allocator is asked for.
"""

import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
sys.path.extend(sys.argv[2:])

import interpreter  # noqa: E402
import stale  # noqa: E402
import tasks  # noqa: E402
import threads  # noqa: E402
import told  # noqa: E402


def cython():
    try:
        import compiled
    except ImportError as error:
        told.absent["Cython"] = str(error)
        return
    compiled.everything(told.keep, told.size)
    try:
        import compiled_traced
    except ImportError as error:
        told.absent["Cython with profile and linetrace"] = str(error)
        return
    compiled_traced.everything(told.keep, told.size)
    sys.setprofile(lambda *_: None)
    compiled_traced.everything(told.keep, told.size)
    sys.setprofile(None)


def main():
    told.write("ready")
    sys.stdin.readline()
    child = stale.Child()
    with tempfile.TemporaryDirectory() as folder:
        interpreter.everything(folder)
    tasks.everything()
    threads.everything(sys.argv[1])
    cython()
    stale.in_threads()
    sys.stdin.readline()
    child.finish()
    for situation, size, frames in told.stacks:
        told.write(json.dumps({"kind": "stack", "what": situation, "size": size, "frames": frames}))
    for situation, why in told.absent.items():
        told.write(json.dumps({"kind": "absent", "what": situation, "why": why}))
    told.write("done")
    sys.stdin.read()


if __name__ == "__main__":
    main()
