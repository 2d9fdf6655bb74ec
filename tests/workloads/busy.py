"""Works hard in four threads on what it can check: json, hashing, containers that grow and go.

    busy.py [END]

Every round of a thread gives the same digest; a round that does not is counted. Prints {"ready": true} when every
thread has done a round, works until a line comes, and prints {"digests": [...], "rounds": n, "mismatches": n}.
Then, after another line, it ends: as END says, or in order.

    exit        sys.exit(5)
    exec        executes `sleep 1000`
"""

import ctypes
import hashlib
import json
import os
import sys
import threading

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.realloc.restype = ctypes.c_void_p
LIBC.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]


def work(seed):
    """One round."""
    digest = hashlib.sha256()
    rows = [{"id": number, "text": "x" * (number * seed % 700), "list": list(range(number % 50))} for number in range(60)]
    text = json.dumps(rows)
    assert json.loads(text) == rows
    digest.update(text.encode())
    grown = bytearray()
    for number in range(40):
        grown += bytes([number * seed % 256]) * 500
    digest.update(grown)
    for size in (100, 2000, 300_000):
        block = LIBC.realloc(LIBC.malloc(size), 2 * size)
        ctypes.memset(block, seed, 2 * size)
        digest.update(ctypes.string_at(block, 2 * size))
        LIBC.free(block)
    made = {}
    exec(compile(f"def f(x):\n    return [x] * {1000 + seed}", "<busy>", "exec"), made)
    digest.update(repr(made["f"](seed)).encode())
    return digest.hexdigest()


class Worker(threading.Thread):
    def __init__(self, seed, stop):
        super().__init__(daemon=True)
        self.seed, self.stop = seed, stop
        self.digest, self.rounds, self.mismatches, self.failure = None, 0, 0, None
        self.first = threading.Event()
        self.start()

    def run(self):
        try:
            self.digest = work(self.seed)
            while not self.stop.is_set():
                self.rounds += 1
                self.mismatches += work(self.seed) != self.digest
                self.first.set()
        except BaseException as failure:
            self.failure = repr(failure)
            self.first.set()


def main():
    stop = threading.Event()
    workers = [Worker(seed, stop) for seed in range(1, 5)]
    for worker in workers:
        worker.first.wait()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    stop.set()
    for worker in workers:
        worker.join()
    print(json.dumps({
        "digests": [worker.digest for worker in workers],
        "rounds": min(worker.rounds for worker in workers),
        "mismatches": sum(worker.mismatches for worker in workers),
        "failures": [worker.failure for worker in workers if worker.failure],
    }), flush=True)
    sys.stdin.readline()
    end = sys.argv[1] if len(sys.argv) > 1 else ""
    if end == "exit":
        sys.exit(5)
    if end == "exec":
        os.execvp("sleep", ["sleep", "1000"])


if __name__ == "__main__":
    main()
