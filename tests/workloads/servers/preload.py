"""A WSGI application that has its data before its workers are forked: gunicorn --preload.

With FREEZE=1 it does what CPython's documentation advises: gc.freeze() before the fork. Each answer says who gave it, and
how much of what the parent has is the collector's to write to, in bytes.
`/collect` runs the garbage collector, as it runs by itself after some thousand allocations; `/browse` reads a quarter of
the catalogue; `/write` changes a buffer.
"""

import gc
import json
import os


class Item:
    """64 bytes with the collector's header."""

    __slots__ = ("name", "price", "stock")

    def __init__(self, number):
        self.name, self.price, self.stock = NAMES[number % len(NAMES)], number % 100, True


ITEMS = 600_000
NAMES = [f"item {number}" for number in range(100)]
CATALOGUE = [Item(number) for number in range(ITEMS)]
PAGE = os.sysconf("SC_PAGESIZE")
BUFFER = bytearray(b"x") * (16 << 20)

gc.collect()
# What the collector will write to: the pages with the header of an object, the interpreter's own too. 16 bytes, in front.
COLLECTED = len({(id(each) - 16) // PAGE for each in gc.get_objects()}) * PAGE
if os.environ.get("FREEZE") == "1":
    gc.freeze()


def collect():
    gc.collect()


def browse():
    for _each in CATALOGUE[: ITEMS // 4]:
        pass


def write():
    for at in range(0, len(BUFFER), PAGE):
        BUFFER[at] = 1


WORK = {"/collect": collect, "/browse": browse, "/write": write}


def app(environ, start_response):
    WORK.get(environ["PATH_INFO"], lambda: None)()
    body = json.dumps({"pid": os.getpid(), "collected": COLLECTED}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
