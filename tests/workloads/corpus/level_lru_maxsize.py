"""lru_cache at a maxsize that the traffic reaches after some seconds."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.10"

import functools

import kit


@functools.lru_cache(maxsize=1200)
def rendered(number, text):
    return [f"{number} {step} {text}" for step in range(12)]


kit.serve(lambda request: len(rendered(request["n"], request["text"])), rate=200, size=600)
