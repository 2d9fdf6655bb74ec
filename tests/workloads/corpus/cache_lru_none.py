"""`lru_cache(maxsize=None)` on a method: an entry, and the object, for each pair of arguments."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["Catalog.offer", "Request.offer", "offer"]
# corpus: seconds = 12
# corpus: python = "3.10"

import functools

import kit


class Catalog:
    def __init__(self, customer):
        self.customer = customer

    @functools.lru_cache(maxsize=None)
    def offer(self, number):
        return [f"{self.customer} item {number + step} at {step}.99" for step in range(60)]


def handle(request):
    return len(Catalog(request["text"]).offer(request["n"]))


kit.serve(handle, rate=40, size=1000)
