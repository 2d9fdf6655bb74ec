"""A service in small. Says what it keeps, where, and how much: once at the start, and after each line that it reads, when it
has grown."""

import asyncio
import ctypes
import json
import re
import sys
import threading

from shop import cache

handler = cache.make_handler()
client = cache.Client()
slotted = cache.Slotted()
suspended = cache.rows(1700)
next(suspended)


# What C code leaves in memory that it does not use: a word that looks like a reference, nearer to a name than who holds it.
match = re.match("a", "a")
held = handler.__closure__[0].cell_contents
ctypes.c_size_t.from_address(id(match) + type(match).__basicsize__ + 8).value = id(held)
del held


def sizes(kind, container, bound=None, elements=None):
    elements = container if elements is None else elements
    return {"kind": kind, "length": len(elements), "bound": bound, "space": sys.getsizeof(elements)}


def lose(count):
    for number in range(count):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(cache.Lost()))


def fill(start, stop, jobs, letters):
    for number in range(start, stop):
        cache.SESSIONS["session %d" % number] = cache.Session(number)
        cache.RECENT.append("recent %d" % number)
        cache.INBOX.put("inbox %d" % number)
        cache.Store.seen[number] = "seen %d" % number
        cache.ADDRESSES.add("address %d" % number)
        client._out_messages.append(cache.Message(number))
        slotted.rows.append("row %d" % number)
        handler(number)
        cache.translate(number)
        cache.translate(number)
        cache.render(number)
        jobs.append("job %d" % number)
        if not cache.WORK.full():
            cache.WORK.put(b"work %d" % number)
        if not letters.full():
            letters.put_nowait("letter %d" % number)


def truth(jobs, letters, count):
    closure = handler.__closure__[0].cell_contents
    caches = {"shop.cache." + function.__name__: function.cache_info()._asdict()
              for function in (cache.translate, cache.render)}
    return {
        "containers": {
            "shop.cache.SESSIONS": sizes("dict", cache.SESSIONS),
            "shop.cache.RECENT": sizes("deque", cache.RECENT, 5000),
            "shop.cache.INBOX": sizes("queue", cache.INBOX, None, cache.INBOX.queue),
            "shop.cache.WORK": sizes("queue", cache.WORK, 2500, cache.WORK.queue),
            "shop.cache.ADDRESSES": sizes("set", cache.ADDRESSES),
            "shop.cache.Store.seen": sizes("dict", cache.Store.seen),
            "shop.cache.Client._out_messages": sizes("list", client._out_messages),
            "shop.cache.Slotted.rows": sizes("list", slotted.rows),
            "closure calls of shop.cache.make_handler.<locals>.handler": sizes("list", closure),
            "local held of shop.cache.rows": sizes("list", next(suspended)),
            "local jobs of __main__.serve": sizes("list", jobs),
            "local letters of __main__.serve": sizes("asyncio_queue", letters, 1900, letters._queue),
            "local parts of __main__.thread": SAID_BY_THREAD[0],
        },
        "caches": caches,
        "objects": {"shop.cache.Session": count, "shop.cache.Message": count, "shop.cache.Lost": 3000},
    }


SAID_BY_THREAD = []


def thread(ready):
    parts = ["part %d" % number for number in range(2200)]
    SAID_BY_THREAD.append(sizes("list", parts))
    ready.set()
    threading.Event().wait()


async def new_queue():
    return asyncio.Queue(maxsize=1900)


def serve():
    jobs = []
    letters = asyncio.run(new_queue())
    ready = threading.Event()
    threading.Thread(target=thread, args=(ready,), daemon=True).start()
    ready.wait()
    lose(3000)
    count = 0
    for more in (4000, 2000):
        fill(count, count + more, jobs, letters)
        count += more
        told = truth(jobs, letters, count)
        if more == 4000:
            print('{"ready": true}', flush=True)
        print(json.dumps(told), flush=True)
        told = None
        sys.stdin.readline()


serve()
