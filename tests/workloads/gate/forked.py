"""Four forked workers, each of which exports the same again and again. The work is counted, not timed."""

import os
import sys

import shop

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 50


def work(number):
    cart = shop.Cart()
    for turn in range(ROUNDS):
        shop.export([bytes(1000)] * 400)
        cart.keep(bytearray(10_000))
    return len(cart.kept)


def main():
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            work(number)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


main()
