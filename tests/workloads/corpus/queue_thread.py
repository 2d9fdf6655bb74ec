"""A queue.Queue between the server's thread and one that writes to a slow store."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["OUTBOX", "handle"]
# corpus: seconds = 12
# corpus: python = "3.9"

import queue
import time

import kit

OUTBOX = queue.Queue()


def store():
    while True:
        OUTBOX.get()
        time.sleep(0.2)


def handle(request):
    OUTBOX.put({"number": request["n"], "rows": request["text"].split("0")})
    return "queued"


kit.in_background(store, name="store")
kit.serve(handle, rate=60, size=2500)
