"""A parent that forks workers and starts a program: each keeps blocks of a size of its own.

Talks in lines: says {"ready": true}, then answers each word on its standard input with one line of JSON.
"""

import json
import os
import subprocess
import sys

WORKERS = 3
INHERITED = 50
INHERITED_SIZE = 20_000
WORKER_SIZE = 30_000
STARTED = 70
STARTED_SIZE = 40_000

KEPT = []


def keep(count, size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    KEPT.extend(bytearray(size - 1) for _ in range(count))


def say(**words):
    print(json.dumps(words), flush=True)


def worker(index, told, answer):
    os.read(told, 1)
    KEPT.clear()
    keep(100 * (index + 1), WORKER_SIZE + 100 * index)
    os.write(answer, b"x")
    os.read(told, 1)
    os._exit(index)


def fork_workers():
    workers = []
    for index in range(WORKERS):
        told, tell = os.pipe()
        answers, answer = os.pipe()
        pid = os.fork()
        if pid == 0:
            worker(index, told, answer)
        workers.append((pid, tell, answers))
    return workers


def started():
    """What the started program does."""
    say(ready=True)
    sys.stdin.readline()
    keep(STARTED, STARTED_SIZE)
    say(done=True)
    sys.stdin.readline()


def main():
    workers, program = [], None
    say(ready=True)
    for word in map(str.strip, sys.stdin):
        if word == "keep":
            keep(INHERITED, INHERITED_SIZE)
            say(blocks=INHERITED, size=INHERITED_SIZE)
        elif word == "fork":
            workers = fork_workers()
            say(pids=[pid for pid, _, _ in workers])
        elif word == "work":
            for index, (_, tell, answers) in enumerate(workers):
                os.write(tell, b"x")
                os.read(answers, 1)
            say(blocks=[100 * (index + 1) for index in range(WORKERS)],
                sizes=[WORKER_SIZE + 100 * index for index in range(WORKERS)])
        elif word == "start":
            command = [sys.executable, os.path.abspath(__file__), "started"]
            program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            program.stdout.readline()
            say(pids=[program.pid])
        elif word == "work there":
            program.stdin.write("go\n")
            program.stdin.flush()
            program.stdout.readline()
            say(blocks=[STARTED], sizes=[STARTED_SIZE])
        elif word == "leave":
            # The child goes on in its place.
            if os.fork():
                os._exit(0)
            say(pids=[os.getpid()])
        elif word == "end workers":
            for pid, tell, _ in workers:
                os.write(tell, b"x")
                os.waitpid(pid, 0)
            say(ended=True)
        elif word == "exit":
            if program:
                program.communicate("exit\n")
            return


if sys.argv[1:] == ["started"]:
    started()
else:
    main()
