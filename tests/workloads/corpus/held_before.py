"""What the job at the start needed is free long since; the process is large, idle, and uses little of what it has."""
# corpus: pattern = "held_by_allocator"
# corpus: culprit = ["malloc_trim", "allocator", "glibc"]
# corpus: seconds = 10
# corpus: python = "3.11"

import kit


def load():
    rows = [bytearray(900 + number % 90) for number in range(150_000)]
    return rows[:: len(rows) // 100]


SUMMARY = load()
SUMMARY.append(bytearray(900))
kit.ready()
kit.idle()
