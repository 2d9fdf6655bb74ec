"""A deque without maxlen: the last samples, it was meant to be."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["Monitor.samples", "record"]
# corpus: seconds = 12
# corpus: python = "3.11"

import collections

import kit


class Monitor:
    def __init__(self):
        self.samples = collections.deque()

    def record(self, request):
        self.samples.append({"n": request["n"], "load": [request["n"] + step * 0.5 for step in range(150)]})
        return max(self.samples[-1]["load"])


kit.serve(Monitor().record, rate=250, size=200)
