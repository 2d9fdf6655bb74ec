"""A pool of connections, each with its buffers, made as the load grows, and used again and again from then on."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.9"

import kit


class Connection:
    def __init__(self):
        self.send, self.receive = bytearray(700_000), bytearray(700_000)


class Pool:
    def __init__(self):
        self.free = []
        self.made = 0

    def take(self):
        if self.free:
            return self.free.pop(0)
        self.made += 1
        return Connection()


POOL = Pool()


def handle(request):
    abreast = min(request["n"] // 10 + 1, 16)
    taken = [POOL.take() for _ in range(abreast)]
    for connection in taken:
        connection.send[:8] = b"question"
    POOL.free.extend(taken)
    return POOL.made


kit.serve(handle, rate=25, size=200)
