"""An index of sets: which events each of 50 users has seen; every set grows with the traffic."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["SEEN", "note"]
# corpus: seconds = 12

import collections

import kit

SEEN = collections.defaultdict(set)


def note(request):
    for at in range(0, len(request["text"]), 20):
        SEEN[request["n"] % 50].add(f"{request['n']}/{at}")
    return len(SEEN)


kit.serve(note, rate=150, size=2000)
