"""Makes small objects and says how many, and how the interpreter's allocator tables stand. Words on standard input, each
answered by a line:

    make    keeps objects, drops some of them and makes others that it drops at once: says how many
    tables  the tables of the domains mem and obj, as numbers; null where there is no ctypes to ask by
    fork    forks a child, which then answers "child" by its own tables
    child   what the child says
"""

import json
import os
import sys
from itertools import repeat

KEPT, DROPPED, PASSING = 5000, 2000, 7000


class Slots:
    __slots__ = ("one", "two")


def hold_objects(kept):
    for index in range(len(kept)):
        kept[index] = object()


def hold_strings(kept):
    for index in range(len(kept)):
        kept[index] = "%060d" % index


def hold_bytes(kept):
    for index in range(len(kept)):
        kept[index] = b"%090d" % index


def hold_slots(kept):
    for index in range(len(kept)):
        kept[index] = Slots()


def pass_objects(times):
    for _ in times:
        object()


def drop(kept, count):
    for index in range(count):
        kept[index] = None


HOLDERS = [hold_objects, hold_strings, hold_bytes, hold_slots]
HELD = []


def make():
    held = []
    for holder in HOLDERS:
        kept = [None] * KEPT
        HELD.append(kept)
        holder(kept)
        drop(kept, DROPPED)
        held.append([holder.__name__, KEPT - DROPPED, KEPT])
    pass_objects(repeat(None, PASSING))
    return {"held": held, "passing": ["pass_objects", 0, PASSING]}


def tables():
    try:
        import ctypes
    except ImportError:
        return None
    found = []
    for domain in (1, 2):
        table = (ctypes.c_size_t * 5)()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(table))
        found.append(list(table))
    return found


class Child:
    def __init__(self):
        (asked, self.ask), (self.answer, answers) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(self.ask)
            while os.read(asked, 1):
                os.write(answers, (json.dumps(tables()) + "\n").encode())
            os._exit(0)
        os.close(asked)
        self.lines = os.fdopen(self.answer)

    def tables(self):
        os.write(self.ask, b"?")
        return json.loads(self.lines.readline())


def main():
    child = None
    tables()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "make":
            answer = make()
        elif word == "tables":
            answer = tables()
        elif word == "fork":
            child = Child()
            answer = {"forked": True}
        elif word == "child":
            answer = child.tables()
        else:
            break
        print(json.dumps(answer), flush=True)


main()
