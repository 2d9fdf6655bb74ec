"""Large things: `scale.py KIND NUMBER`. Each block that counts is made by `counted_block`, one of the C allocator.

Talks in lines: says {"ready": true}; at every word on its standard input it takes its next step and answers with one
line of JSON; ends at the end of its input. A kind is a generator, a step is what it does up to a `yield`.
"""

import json
import mmap
import os
import signal
import sys
import threading
import time

KEPT = []


def counted_block(size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    return bytearray(size - 1)


def kept_for_scale(count, size=3000):
    for _ in range(count):
        KEPT.append(counted_block(size))


def say(**words):
    print(json.dumps(words), flush=True)


def fork_waiting(work):
    """A child that works when told, answers, and ends when told."""
    told, tell = os.pipe()
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        if os.read(told, 1) == b"x":
            work()
            os.write(answer, b"x")
            os.read(told, 1)
        os._exit(0)
    os.close(told)
    os.close(answer)
    return pid, tell, answers


def tell_all(children, what=b"x"):
    for _, tell, _ in children:
        os.write(tell, what)


def end_all(children, how=b"x"):
    tell_all(children, how)
    for pid, tell, answers in children:
        os.waitpid(pid, 0)
        os.close(tell)
        os.close(answers)


def workers(number):
    """As many at once; the step after works, the one after that ends them, and again."""
    while True:
        children = [fork_waiting(lambda: kept_for_scale(100)) for _ in range(number)]
        yield dict(pids=[pid for pid, _, _ in children])
        tell_all(children)
        for _, _, answers in children:
            os.read(answers, 1)
        yield dict(blocks=100 * number)
        end_all(children)
        yield dict(ended=True)


def many_paths(number, prefix):
    """Functions that nobody else has, so that each child brings code and paths of its own."""
    source = "\n".join(f"def {prefix}{index}(): kept_for_scale(1)" for index in range(number))
    names = {"kept_for_scale": kept_for_scale}
    exec(compile(source, "<child>", "exec"), names)
    return [names[f"{prefix}{index}"] for index in range(number)]


def children(number):
    """One after the other, spread over a minute; each has 100 paths and lives a tenth of a second."""
    began = time.monotonic()
    for index in range(number):
        pid = os.fork()
        if pid == 0:
            until = time.monotonic() + 0.1
            functions = many_paths(100, "made")
            while time.monotonic() < until:
                for function in functions:
                    function()
                time.sleep(0.01)
            os._exit(0)
        os.waitpid(pid, 0)
        time.sleep(max(0.0, began + 60.0 * index / number - time.monotonic()))
    yield dict(ended=True)


def threads(number):
    barrier = threading.Barrier(number)

    def work():
        barrier.wait()
        kept_for_scale(100)
        barrier.wait()

    started = [threading.Thread(target=work) for _ in range(number)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    yield dict(blocks=100 * number)


def deep(number):
    sys.setrecursionlimit(number + 100)

    def down(left):
        if left:
            down(left - 1)
        else:
            kept_for_scale(1000)

    down(number)
    yield dict(blocks=1000)


def left(bits, levels):
    step(bits, levels)


def right(bits, levels):
    step(bits, levels)


def step(bits, levels):
    if not levels:
        kept_for_scale(1)
    elif bits & 1:
        right(bits >> 1, levels - 1)
    else:
        left(bits >> 1, levels - 1)


def paths(number):
    for bits in range(number):
        step(bits, number.bit_length())
    yield dict(blocks=number)


def blocks(number):
    kept_for_scale(number, 600)
    yield dict(blocks=number)


def codes(number):
    """Each code object is run once and dropped; every hundredth has a name that was not there before."""
    for index in range(number):
        source = "def made(): kept_for_scale(1)\nmade()"
        exec(compile(source, f"<made {index // 100}>", "exec"), {"kept_for_scale": kept_for_scale})
        KEPT.clear()
    yield dict(blocks=number)


def mappings(number):
    """Neighbours have different rights, else the kernel joins them."""
    rights = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
    held = [mmap.mmap(-1, 4096, prot=rights[index % 2]) for index in range(number)]
    yield dict(mapped=len(held))
    more = [mmap.mmap(-1, 8192, prot=rights[index % 2]) for index in range(number)]
    kept_for_scale(1000)
    yield dict(blocks=1000, mapped=len(more))


def pids(number):
    """Each child gets the pid of the one before, as on a machine that has gone through all its pids."""
    last = None
    for index in range(number):
        for _ in range(100):
            if last is not None:
                with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                    file.write(str(last - 1))
            child = fork_waiting(lambda: kept_for_scale(100 + index))
            if last in (None, child[0]):
                break
            # Another program was faster.
            end_all([child], b"q")
        last = child[0]
        yield dict(pids=[last])
        tell_all([child])
        os.read(child[2], 1)
        end_all([child])
        yield dict(blocks=100 + index)


def alone(_):
    """A child that lives on."""
    child = fork_waiting(lambda: None)
    yield dict(pids=[child[0]])
    end_all([child], b"q")
    yield dict(ended=True)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kind, number = sys.argv[1:]
    steps = globals()[kind](int(number))
    if kind == "mappings":
        next(steps)
    say(ready=True)
    for _ in sys.stdin:
        say(**next(steps))


main()
