"""Imports leakext when told to and calls it: one line in, one line out, and `ready` first."""

import sys

print("ready", flush=True)
for line in sys.stdin:
    word, *arguments = line.split()
    if word == "import":
        sys.path.insert(0, arguments[0])
        import leakext

        print("imported", flush=True)
    elif word == "time":
        import time

        name, n, size = arguments[0], int(arguments[1]), int(arguments[2])
        started = time.perf_counter_ns()
        getattr(leakext, name)(n, size)
        print((time.perf_counter_ns() - started) // n, flush=True)
    else:
        getattr(leakext, word)(*map(int, arguments))
        print("done", flush=True)
