"""Threads that make, change and drop objects of every kind as fast as they can, and check what they have. Beside them a few
containers that nobody changes. Says how often each thread went round, when asked by a line."""

import collections
import functools
import json
import queue
import sys
import threading

STILL = {number: "still %d" % number for number in range(3000)}
THREADS = 4

sys.setswitchinterval(0.0002)


class Node:
    def __init__(self, above):
        self.above = above
        self.name = "node"


def dicts(turn):
    made = {}
    for number in range(500):
        made["key %d" % (number + turn)] = [number] * (number % 9)
    for number in range(0, 500, 2):
        del made["key %d" % (number + turn)]
    assert len(made) == 250
    return made


def lists(turn):
    made = []
    for number in range(400):
        made.append((number, str(number)))
        if number % 3 == 0:
            made.insert(0, number)
    del made[100:]
    assert len(made) == 100
    return made


def sets(turn):
    made = {"member %d" % number for number in range(300)}
    made -= {"member %d" % number for number in range(0, 300, 3)}
    assert len(made) == 200
    return frozenset(made)


def queues(turn):
    made, few = queue.Queue(), collections.deque(maxlen=50)
    for number in range(200):
        made.put(b"x" * number)
        few.append(number)
    while made.qsize() > 20:
        made.get()
    assert len(few) == 50
    return made, few


def chains(turn):
    top = None
    for _ in range(100):
        top = Node(top)
    ring = Node(None)
    ring.above = Node(ring)
    return top


def kinds(turn):
    """Types come and go, and with them what says how their objects lie in memory."""
    made = [type("Kind%d" % number, (Node,), {"value": number, "__slots__": ("a%d" % number,)}) for number in range(5)]
    return [kind(None) for kind in made]


def caches(turn):
    @functools.lru_cache(maxsize=64)
    def square(number):
        return number * number

    assert sum(square(number % 100) for number in range(300)) > 0
    return square


def suspended(turn):
    def endless(start):
        held = [start] * 10
        while True:
            yield held

    made = [endless(number) for number in range(50)]
    assert all(next(each)[0] == number for number, each in enumerate(made))
    return made


def texts(turn):
    return ["é" * (number % 70) + "x" * number for number in range(200)], bytearray(turn % 100_000), "y" * (turn % 300_000)


WORK = [dicts, lists, sets, queues, chains, kinds, caches, suspended, texts]
ROUNDS = [0] * THREADS


def work(index):
    kept = collections.deque(maxlen=20)
    turn = index
    while True:
        kept.append(WORK[turn % len(WORK)](turn))
        turn += 1
        ROUNDS[index] = turn


workers = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]
for worker in workers:
    worker.start()
print('{"ready": true}', flush=True)
while sys.stdin.readline():
    # A thread whose check has failed has ended.
    print(json.dumps({"alive": sum(worker.is_alive() for worker in workers), "rounds": ROUNDS}), flush=True)
