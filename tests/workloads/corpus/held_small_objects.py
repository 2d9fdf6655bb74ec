"""Small objects, given back but for a few in each arena: pymalloc keeps every arena that has one in use."""
# corpus: pattern = "held_by_allocator"
# corpus: culprit = ["analyse", "arena", "pymalloc", "allocator"]
# corpus: seconds = 16
# corpus: python = "3.9"

import time

import kit

KEPT = []


def analyse():
    words = []
    for part in range(50):
        words.extend(("word", number, part) for number in range(16_000))
        time.sleep(0.08)
    KEPT.extend(words[::400])
    words.clear()


kit.ready()
time.sleep(2)
analyse()
kit.idle()
