"""aiohttp: bodies of half a megabyte, parsed, and held while a slow service is asked; more and more at a time."""
# corpus: pattern = "payload_or_traffic_pressure"
# corpus: culprit = ["json", "loads", "order", "read"]
# corpus: seconds = 16
# corpus: needs = ["servers"]

import asyncio
import json


async def order(request):
    from aiohttp import web

    documents = json.loads(await request.read())
    await asyncio.sleep(1.2)
    return web.Response(text=str(len(documents)))


async def main():
    from aiohttp import web

    import kit

    application = web.Application(client_max_size=1 << 24)
    application.router.add_post("/orders", order)
    runner = web.AppRunner(application)
    await runner.setup()
    port = kit.free_port()
    for turn, abreast in enumerate((1, 2, 4, 8)):
        kit.outside("web_load.py", port, "/orders", abreast, 500_000, abreast, turn * 3)
    kit.ready()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.sleep(kit.LIFETIME)


if __name__ == "__main__":
    asyncio.run(main())
