"""Batches under traffic: each request is parsed into a large tree that is dropped, and a few of its strings stay."""
# corpus: pattern = "held_by_allocator"
# Each request is a burst as well, and what is held is what bursts leave behind.
# corpus: also = ["payload_or_traffic_pressure"]
# corpus: culprit = ["work_on", "handle", "allocator", "arena", "glibc"]
# corpus: seconds = 16

import kit

NAMES = []


def work_on(request):
    rows = [{"name": "x" * (600 + row % 50), "row": row} for row in range(20_000 * min(request["n"], 4))]
    NAMES.extend(row["name"] for row in rows[::500])
    return len(rows)


kit.serve(work_on, rate=0.8, size=200)
