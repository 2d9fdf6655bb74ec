"""A nightly job: many blocks of a kilobyte, all given back but one in forty, which pin the heap's pages in place."""
# corpus: pattern = "held_by_allocator"
# corpus: culprit = ["nightly", "malloc_trim", "glibc", "allocator"]
# corpus: seconds = 16

import time

import kit

SUMMARIES = []


def nightly():
    rows = []
    for part in range(40):
        rows.extend(bytearray(1000 + number % 7) for number in range(1500))
        time.sleep(0.1)
    SUMMARIES.extend(rows[::40])
    rows.clear()


kit.ready()
time.sleep(2)
nightly()
kit.idle()
