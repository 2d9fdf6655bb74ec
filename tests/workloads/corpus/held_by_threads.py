"""Eight threads, each with an arena of glibc's: every one has had its burst, and its arena keeps the pages."""
# corpus: pattern = "held_by_allocator"
# corpus: culprit = ["burst", "arena", "allocator"]
# corpus: seconds = 16
# corpus: python = "3.12"

import threading
import time

import kit

PINNED = []


def burst(turn):
    blocks = []
    time.sleep(2 + turn * 0.6)
    for number in range(9000):
        blocks.append(bytearray(1100))
        if number % 1000 == 999:
            time.sleep(0.02)
    PINNED.extend((blocks[8998], blocks[4500]))
    PINNED.append(bytearray(900))
    blocks.clear()


def worker(turn):
    burst(turn)
    kit.idle()


for turn in range(8):
    kit.in_background(worker, turn, name=f"worker-{turn}")
kit.ready()
kit.idle()
