"""An asyncio.Queue without a bound, and a consumer that is far slower than what comes in."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["Pipeline.inbox", "accept"]
# corpus: seconds = 12

import asyncio
import json

import kit


class Pipeline:
    def __init__(self):
        self.inbox = asyncio.Queue()

    async def accept(self, reader, writer):
        while line := await reader.readline():
            await self.inbox.put(json.loads(line))
            writer.write(b"0\n")
            await writer.drain()

    async def consume(self):
        while True:
            await self.inbox.get()
            await asyncio.sleep(0.25)


async def main():
    pipeline = Pipeline()
    server = await asyncio.start_server(pipeline.accept, "127.0.0.1", 0)
    consumer = asyncio.ensure_future(pipeline.consume())
    kit.outside("lines.py", server.sockets[0].getsockname()[1], 200, 6000, kit.LIFETIME)
    kit.ready()
    await asyncio.wait([consumer], timeout=kit.LIFETIME)


asyncio.run(main())
