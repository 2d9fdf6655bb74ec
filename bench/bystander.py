"""Measures itself when told: `bystander.py`. Talks in lines; see the functions. Ends with its input.

`child ORDER` passes an order on to the child that `fork` made.
"""

import os
import sys
import time

CHILD = []


def per_round(work, rounds):
    """CPU time a round, ns: the least of five."""
    best = None
    for _ in range(5):
        began = time.thread_time_ns()
        work(rounds)
        took = time.thread_time_ns() - began
        best = took if best is None else min(best, took)
    return best / rounds


def loop(rounds):
    for _ in range(rounds):
        pass


def blocks(rounds):
    for _ in range(rounds):
        bytearray(600)


def answer(order):
    if order == "fork":
        return fork()
    if order == "end child":
        return end_child()
    if order.startswith("child "):
        return through_child(order[6:])
    if order == "loop":
        return per_round(loop, 100_000)
    return per_round(blocks, 4_000)


def fork():
    told, tell = os.pipe()
    answers, answered = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.close(answers)
        serve(os.fdopen(told), os.fdopen(answered, "w"))
        os._exit(0)
    os.close(told)
    os.close(answered)
    CHILD[:] = [pid, os.fdopen(tell, "w"), os.fdopen(answers)]
    return pid


def through_child(order):
    _, tell, answers = CHILD
    print(order, file=tell, flush=True)
    return float(answers.readline())


def end_child():
    pid, tell, answers = CHILD
    tell.close()
    os.waitpid(pid, 0)
    answers.close()
    return 0


def forks(number):
    """A tree that idles as long as its root lives."""
    until_end, held = os.pipe()
    for _ in range(number):
        if os.fork() == 0:
            os.close(held)
            os.read(until_end, 1)
            os._exit(0)


def serve(orders, answers):
    for order in iter(orders.readline, ""):
        print(answer(order.strip()), file=answers, flush=True)


if len(sys.argv) > 1:
    forks(int(sys.argv[1]))
print("ready", flush=True)
serve(sys.stdin, sys.stdout)
