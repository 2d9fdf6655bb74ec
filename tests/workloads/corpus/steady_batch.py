"""A nightly batch whose pages are given back when it is done: it was large for some seconds, and is not any more."""
# corpus: pattern = "no_growth"
# corpus: also = ["levels_off"]
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.10"

import ctypes
import time

import kit

SUMMARY = []


def load(part):
    return [bytearray(2000) for _ in range(1000)]


def nightly():
    batch = []
    for part in range(30):
        batch += load(part)
        SUMMARY.append({"part": part, "count": len(batch), "first": bytes(batch[-1])})
        time.sleep(0.1)
    time.sleep(1)
    del batch
    ctypes.CDLL("libc.so.6").malloc_trim(0)


kit.ready()
time.sleep(6)
nightly()
kit.idle()
