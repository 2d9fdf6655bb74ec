"""Nothing but allocation: what a tracer pays for most. `worst.py KIND ROUNDS THREADS`, KIND one of

blocks  blocks of 600 bytes, made and dropped: each is a malloc and a free of the C allocator
lists   lists of one item, made and dropped: small objects. With PYTHONMALLOC=malloc each takes two mallocs and frees
"""

import sys
import threading
from itertools import repeat


def blocks(rounds):
    for _ in repeat(None, rounds):
        bytearray(600)


def lists(rounds):
    for number in repeat(None, rounds):
        [number]


def main():
    work = {"blocks": blocks, "lists": lists}[sys.argv[1]]
    rounds, threads = int(sys.argv[2]), int(sys.argv[3])
    all_threads = [threading.Thread(target=work, args=(rounds // threads,)) for _ in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()


main()
