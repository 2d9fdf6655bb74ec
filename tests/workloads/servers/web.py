"""A WSGI application with a leak in one handler: what each worker keeps, it says in its answers.

Every worker process says in each answer who it is and how much it has kept. `/leak/BLOCKS/SIZE` keeps blocks,
`/churn` makes and drops some, `/` only answers.
"""

import json
import os

KEPT = []
# Made when the module is imported: with --preload by the master, and given back by the worker that is told to.
INHERITED = [bytearray(25_000 - 1) for _ in range(40)]
SAID = {"kept": 0, "requests": 0}


def remember(blocks, size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    KEPT.extend(bytearray(size - 1) for _ in range(blocks))
    SAID["kept"] += blocks


def churn():
    return sum(len(json.dumps({"number": number, "text": "x" * 700})) for number in range(50))


def app(environ, start_response):
    words = environ["PATH_INFO"].strip("/").split("/")
    SAID["requests"] += 1
    if words[0] == "leak":
        remember(int(words[1]), int(words[2]))
    elif words[0] == "churn":
        churn()
    elif words[0] == "release":
        INHERITED.clear()
    body = json.dumps({"pid": os.getpid(), **SAID}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """The same for uvicorn's workers."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    bodies = app({"PATH_INFO": scope["path"]}, lambda *_: None)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(bodies[0]))]})
    await send({"type": "http.response.body", "body": bodies[0]})
