"""Programs that start programs: each link of the chain keeps blocks of a size of its own.

    programs.py OTHER_PYTHON

Says {"ready": true}, then answers each word on its standard input with one line of JSON: "shell" runs this file by
`sh -c "python ..."`, "other" by another Python, "daemon" as a daemon (two forks), "replace" executes the other Python
in this very process, "crowd" starts many shells at once, each of which becomes the other Python. Each started program
says its pid and what it keeps; of a crowd, all of them in one line.
"""

import json
import os
import subprocess
import sys

SIZES = {"shell": 22_000, "other": 26_000, "daemon": 28_000, "crowd": 30_000, "replace": 34_000}
BLOCKS = 50
CROWD = 12

KEPT = []


def keep(blocks, size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    KEPT.extend(bytearray(size - 1) for _ in range(blocks))


def say(to=None, **words):
    print(json.dumps(words), file=to, flush=True)


def held(name, told, answer):
    """What each started program does: waits for a word, keeps, says so, and waits for the end."""
    say(to=answer, pid=os.getpid(), size=SIZES[name])
    told.readline()
    keep(BLOCKS, SIZES[name])
    say(to=answer, pid=os.getpid(), size=SIZES[name], kept=len(KEPT))
    told.readline()


def daemon():
    """Two forks, the middle process ends at once."""
    (told, tell), (answers, answer) = os.pipe(), os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(tell)
        held("daemon", os.fdopen(told), os.fdopen(answer, "w"))
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(told)
    os.close(answer)
    return os.fdopen(tell, "w"), os.fdopen(answers)


def crowd(other, this):
    started = [program(["sh", "-c", 'exec "$0" "$@"', other, this, "held", "crowd"]) for _ in range(CROWD)]
    say(crowd=[json.loads(answers.readline()) for _, answers in started])
    sys.stdin.readline()
    for tell, _ in started:
        tell.write("work\n")
        tell.flush()
    say(crowd=[json.loads(answers.readline()) for _, answers in started])
    sys.stdin.readline()
    for tell, _ in started:
        tell.close()


def program(command):
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return child.stdin, child.stdout


def main(other):
    this = os.path.abspath(__file__)
    started = {}
    say(ready=True)
    while True:
        word, _, name = sys.stdin.readline().strip().partition(" ")
        if word == "start" and name == "shell":
            started[name] = program(["sh", "-c", f"true; '{sys.executable}' '{this}' held shell; true"])
        elif word == "start" and name == "other":
            started[name] = program([other, this, "held", "other"])
        elif word == "start" and name == "daemon":
            started[name] = daemon()
        elif word == "crowd":
            crowd(other, this)
            return
        elif word == "replace":
            os.execv(other, [other, this, "held", "replace"])
        elif word == "work":
            started[name][0].write("work\n")
            started[name][0].flush()
        elif word == "exit":
            for tell, _ in started.values():
                tell.close()
            return
        print(started[name][1].readline(), end="", flush=True)


if sys.argv[1] == "held":
    held(sys.argv[2], sys.stdin, sys.stdout)
else:
    main(sys.argv[1])
