"""Twenty functions that allocate and keep blocks of many sizes: for sampling, each is a run of its own.

    sampled.py

Says that it is ready, works when told "go", and prints for each function what it allocated and what it keeps.
"""

import json
import random
import sys

FUNCTIONS = 20
CALLS = 4000
KEEP_EVERY = 5

SOURCE = """
def work_{number}(sizes, kept):
    for index, size in enumerate(sizes):
        block = bytearray(size)
        if index % {every} == 0:
            kept[index] = block
"""


def main():
    random.seed(1)
    functions = {}
    for number in range(FUNCTIONS):
        source = SOURCE.format(number=number, every=KEEP_EVERY)
        exec(compile(source, "sampled.py", "exec"), functions)
    # Above 512 bytes, so that they come from the C allocator; some above the interval.
    sizes = [int(600 * 1.002 ** random.randrange(2000)) for _ in range(CALLS)]
    kept = [[None] * CALLS for _ in range(FUNCTIONS)]
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    for number in range(FUNCTIONS):
        functions[f"work_{number}"](sizes, kept[number])
    blocks = [len(block) + 1 for block in kept[0] if block is not None]
    print(json.dumps({"inuse_objects": len(blocks), "inuse_space": sum(blocks), "alloc_objects": CALLS,
                      "alloc_space": sum(size + 1 for size in sizes)}), flush=True)
    sys.stdin.readline()


main()
