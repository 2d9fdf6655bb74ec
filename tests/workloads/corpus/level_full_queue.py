"""A queue with a maxsize and a slow consumer: it fills, and then whoever puts has to wait."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.12"

import queue
import time

import kit

WORK = queue.Queue(maxsize=900)


def consume():
    while True:
        WORK.get()
        time.sleep(0.02)


def handle(request):
    WORK.put([request["text"] + str(part) for part in range(8)])
    return WORK.qsize()


kit.in_background(consume, name="consumer")
kit.serve(handle, rate=200, size=2000)
