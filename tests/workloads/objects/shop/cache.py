"""What a service keeps: each in another way, each of a known size."""

import functools
import queue
from collections import deque


class Session:
    def __init__(self, number):
        self.number = number
        self.name = "session %d" % number


class Message:
    __slots__ = ("topic", "payload")

    def __init__(self, number):
        self.topic = number
        self.payload = b"m" * 200


class Lost:
    """Its objects have a reference too many, which no object has: as after a missing Py_DECREF."""


SESSIONS = {}
RECENT = deque(maxlen=5000)
INBOX = queue.Queue()
WORK = queue.Queue(maxsize=2500)
ADDRESSES = set()


class Store:
    seen = {}


class Client:
    def __init__(self):
        self._out_messages = []


class Slotted:
    __slots__ = ("rows", "other")

    def __init__(self):
        self.other = None
        self.rows = []


def make_handler():
    calls = []

    def handler(number):
        calls.append("call %d" % number)
        return calls

    return handler


def rows(count):
    held = [(number, "row") for number in range(count)]
    while True:
        yield held


@functools.lru_cache(maxsize=None)
def translate(number):
    return "translated %d" % number


@functools.lru_cache(maxsize=1024)
def render(number):
    return "rendered %d" % number
