"""A scratch buffer of an extension, from PyMem_RawMalloc, that nobody gives back; called by a background thread."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["lostext", "resample"]
# corpus: seconds = 12
# corpus: needs = ["lostext"]
# corpus: python = "3.9"

import lostext

import kit


def resample(number):
    return lostext.buffer(20_000 + number % 5)


kit.ready()
for number in kit.ticks(100):
    resample(number)
