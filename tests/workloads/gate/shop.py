"""A small shop, whose tests a gate looks at. `SHOP_EXPORT` is how much memory an export takes, in percent."""

import os

ROWS = 2000
EXPORT = int(os.environ.get("SHOP_EXPORT", "100"))


def orders():
    return [{"id": number, "name": f"order {number}"} for number in range(ROWS)]


class Cart:
    def __init__(self):
        self.kept = []

    def keep(self, block):
        self.kept.append(bytes(block))


def export(rows):
    size = sum(len(row) for row in rows)
    room = bytearray(size * EXPORT // 100)
    at = 0
    for row in rows:
        room[at : at + len(row)] = row
        at += len(row)
    return room[:size]
