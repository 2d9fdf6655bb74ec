"""asyncio, uvloop, greenlet and gevent: stacks that are left and taken up again."""

import asyncio
import contextvars
import sys
import threading

from told import absent, keep, size


async def leaf(situation):
    keep(situation, bytes(size()))
    return 0


async def middle(situation):
    await asyncio.sleep(0)
    return await leaf(situation)


async def outer(situation):
    return await middle(situation)


class Manager:
    def __init__(self, situation):
        self.situation = situation

    async def __aenter__(self):
        await asyncio.sleep(0)
        keep(self.situation + ": __aenter__", bytes(size()))

    async def __aexit__(self, *_):
        await asyncio.sleep(0)
        keep(self.situation + ": __aexit__", bytes(size()))


class Awaitable:
    def __init__(self, situation):
        self.situation = situation

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        keep(self.situation, bytes(size()))


async def stream(situation):
    try:
        yield 1
        await asyncio.sleep(0)
        keep(situation + ": async generator", bytes(size()))
        yield 2
    finally:
        keep(situation + ": async generator's end", bytes(size()))


async def cancelled(situation):
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        keep(situation, bytes(size()))
        raise


async def program(name):
    loop = asyncio.get_running_loop()
    await outer(name + ": await chain")
    await asyncio.gather(outer(name + ": task"), outer(name + ": second task"))
    await asyncio.create_task(outer(name + ": create_task"))
    async with Manager(name):
        pass
    await Awaitable(name + ": __await__")
    async for _ in stream(name):
        pass
    [item async for item in stream(name + ": comprehension")]
    async for _ in stream(name + ": left"):
        break
    task = asyncio.create_task(cancelled(name + ": cancelled"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(outer(name + ": wait_for"), 60)
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(keep(name + ": call_soon", bytes(size()))))
    await done
    done = loop.create_future()
    done.add_done_callback(lambda _: keep(name + ": done callback", bytes(size())))
    loop.call_later(0.001, done.set_result, 0)
    await done
    await loop.run_in_executor(None, lambda: keep(name + ": executor", bytes(size())))
    contextvars.copy_context().run(lambda: keep(name + ": context", bytes(size())))
    waiting = asyncio.Event()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(
        lambda: (keep(name + ": call_soon_threadsafe", bytes(size())), waiting.set()))).start()
    await waiting.wait()
    if hasattr(asyncio, "TaskGroup"):
        async with asyncio.TaskGroup() as group:
            group.create_task(outer(name + ": TaskGroup"))
    await loop.shutdown_asyncgens()


async def eager(name):
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await asyncio.create_task(leaf(name + ": eager task"))
    await asyncio.create_task(outer(name + ": eager task that waits"))
    await asyncio.gather(outer(name + ": two eager tasks"), leaf(name + ": second of two eager tasks"))


def asyncio_tasks():
    asyncio.run(program("asyncio"))
    thread = threading.Thread(target=lambda: asyncio.run(program("asyncio in a thread")))
    thread.start()
    thread.join()
    if hasattr(asyncio, "eager_task_factory"):
        asyncio.run(eager("asyncio"))
    else:
        absent["eager tasks"] = "since 3.12"


def uvloop_tasks():
    try:
        import uvloop
    except ImportError as error:
        absent["uvloop"] = str(error)
        return
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(program("uvloop"))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    asyncio.set_event_loop(None)


def switching_iterator(other):
    for number in range(3):
        other.switch(number)
        yield number


class SwitchesWhenDropped:
    def __init__(self, other):
        self.other = other

    def __del__(self):
        self.other.switch("dropped")
        keep("greenlet: __del__ that switched", bytes(size()))


class SwitchesInMiddle:
    def __init__(self, other):
        self.other = other

    def __bytes__(self):
        self.other.switch("in bytes()")
        self.kept = keep("greenlet: bytes() that switched", b"x" * size())
        return b""


def greenlets():
    try:
        from greenlet import greenlet, getcurrent
    except ImportError as error:
        absent["greenlet"] = str(error)
        return
    main = getcurrent()

    def simple():
        keep("greenlet: first run", bytes(size()))
        main.switch()
        keep("greenlet: second run", bytes(size()))

    one = greenlet(simple)
    one.switch()
    keep("greenlet: parent in between", bytes(size()))
    one.switch()

    def recursive(depth, other):
        if depth:
            return recursive(depth - 1, other)
        keep("greenlet: deep, before", bytes(size()))
        other().switch()
        keep("greenlet: deep, after", bytes(size()))

    def second():
        keep("greenlet: from another greenlet", bytes(size()))
        recursive(5, lambda: first)

    other = greenlet(second)
    first = greenlet(lambda: recursive(30, lambda: other))
    first.switch()
    keep("greenlet: main after two", bytes(size()))
    other.switch()

    def partner(*_):
        while True:
            keep("greenlet: in the middle of bytes()", bytes(size())) if not partner.done else None
            partner.done = True
            main.switch()

    partner.done = False
    middle_greenlet = greenlet(partner)
    bytes(SwitchesInMiddle(middle_greenlet))
    dropped = SwitchesWhenDropped(middle_greenlet)
    del dropped
    sorted([2, 1], key=lambda number: middle_greenlet.switch() or number)
    keep("greenlet: after a switch in sorted", bytes(size()))
    list(switching_iterator(middle_greenlet))

    def generator_in_greenlet():
        for _ in (keep("greenlet: generator", bytes(size())) for _ in range(1)):
            main.switch()

    held = greenlet(generator_in_greenlet)
    held.switch()

    class Stopped(Exception):
        pass

    def stopped():
        try:
            main.switch()
        except Stopped:
            keep("greenlet: thrown into", bytes(size()))

    target = greenlet(stopped)
    target.switch()
    target.throw(Stopped)

    def killed():
        try:
            main.switch()
        finally:
            keep("greenlet: killed when dropped", bytes(size()))

    target = greenlet(killed)
    target.switch()
    del target
    thread = threading.Thread(target=lambda: greenlet(lambda: keep("greenlet: in a thread", bytes(size()))).switch())
    thread.start()
    thread.join()


def gevents():
    try:
        import gevent
        import gevent.pool
        import gevent.queue
        import gevent.threadpool
    except ImportError as error:
        absent["gevent"] = str(error)
        return

    def work(name):
        keep("gevent: %s, before" % name, bytes(size()))
        gevent.sleep(0)
        keep("gevent: %s, after" % name, bytes(size()))

    gevent.joinall([gevent.spawn(work, "one"), gevent.spawn(work, "two")])
    pool = gevent.pool.Pool(2)
    pool.map(work, ["pool one", "pool two", "pool three"])
    queue = gevent.queue.Queue()
    consumer = gevent.spawn(lambda: keep("gevent: consumer", bytes(queue.get())))
    gevent.spawn(lambda: queue.put(size())).join()
    consumer.join()
    gevent.get_hub().loop.run_callback(lambda: keep("gevent: callback on the hub", bytes(size())))
    gevent.sleep(0)
    timer = gevent.get_hub().loop.timer(0.001)
    timer.start(lambda: keep("gevent: timer on the hub", bytes(size())))
    gevent.sleep(0.01)
    gevent.threadpool.ThreadPool(1).spawn(lambda: keep("gevent: thread pool", bytes(size()))).get()


def everything():
    asyncio_tasks()
    uvloop_tasks()
    greenlets()
    gevents()
