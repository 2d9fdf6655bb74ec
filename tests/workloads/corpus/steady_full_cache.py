"""lru_cache and a deque, both at their bound since before anybody looked: an entry goes for each that comes."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 12
# corpus: python = "3.11"

import collections
import functools

import kit

LAST = collections.deque(maxlen=2000)


@functools.lru_cache(maxsize=2000)
def rendered(number, text):
    return [f"{number} {step} {text}" for step in range(10)]


def handle(request):
    LAST.append((request["n"], request["text"]))
    return len(rendered(request["n"], request["text"]))


for number in range(-6000, 0):
    handle({"n": number, "text": f"{number:08x}" * 60})
kit.serve(handle, rate=200, size=480)
