"""A service's day in three minutes: requests at an even pace, about 50 000 malloc and free a second.

Says `ready` when it runs; ends with its parent. Retention is bounded: a cache that is full after a while.
"""

import os
import time
from collections import deque

PER_SECOND = 50_000
TICK = 0.01

cache = deque(maxlen=2000)


def read_request(size):
    return bytearray(size)


def parse(body):
    return bytes(body[: len(body) // 2 + 600])


def render(document):
    return b"".join((document, b"x" * 700))


def respond(size):
    """Three blocks over 512 bytes or so, all given back but one in a hundred."""
    page = render(parse(read_request(size)))
    if size % 100 == 0:
        cache.append(page)


def handle(depth, size):
    """Middlewares: a stack of a service's depth."""
    if depth:
        handle(depth - 1, size)
    else:
        respond(size)


def serve():
    parent = os.getppid()
    requests = int(PER_SECOND * TICK / 4)
    number = 0
    while os.getppid() == parent:
        began = time.monotonic()
        for _ in range(requests):
            number += 1
            handle(number % 20, 1000 + number % 997)
        rest = TICK - (time.monotonic() - began)
        if rest > 0:
            time.sleep(rest)


print("ready", flush=True)
serve()
