"""A cache that grows with the traffic, and a job whose blocks were given back to an allocator that keeps the pages."""
# corpus: pattern = "mixed"
# corpus: parts = ["unbounded_cache_or_queue", "held_by_allocator"]
# corpus: culprit = ["PROFILES", "profile"]
# corpus: seconds = 16

import time

import kit

PROFILES = {}
TOTALS = []


def profile(request):
    PROFILES[request["n"]] = request["text"] * 3
    return len(PROFILES)


def job():
    time.sleep(3)
    rows = []
    for part in range(30):
        rows.extend(bytearray(1000) for number in range(1000))
        time.sleep(0.05)
    TOTALS.extend(rows[::40])


kit.in_background(job, name="job")
kit.serve(profile, rate=150, size=3000)
