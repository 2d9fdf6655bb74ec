"""Long polling with asyncio: the waiter of each client stays in a list after the client has gone."""
# corpus: pattern = "retained_references"
# corpus: culprit = ["Hub.waiters", "wait_for_news", "poll"]
# corpus: seconds = 12

import asyncio
import json

import kit


class Hub:
    def __init__(self):
        self.waiters = []

    async def wait_for_news(self, request):
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append((waiter, request))
        try:
            return await asyncio.wait_for(asyncio.shield(waiter), 0.02)
        except asyncio.TimeoutError:
            return None


HUB = Hub()


async def poll(reader, writer):
    while line := await reader.readline():
        asyncio.ensure_future(HUB.wait_for_news(json.loads(line)))
        writer.write(b"0\n")
        await writer.drain()


async def main():
    server = await asyncio.start_server(poll, "127.0.0.1", 0)
    kit.outside("lines.py", server.sockets[0].getsockname()[1], 150, 6000, kit.LIFETIME)
    kit.ready()
    await asyncio.sleep(kit.LIFETIME)


asyncio.run(main())
