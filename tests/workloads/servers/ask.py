"""Gives the Celery application tasks: for each line "BLOCKS SIZE" one, and says what its worker says."""

import json
import sys

import tasks


def say(words):
    print(json.dumps(words), flush=True)


say({"ready": True})
for line in sys.stdin:
    blocks, size = map(int, line.split())
    say(tasks.leak.delay(blocks, size).get(timeout=60))
