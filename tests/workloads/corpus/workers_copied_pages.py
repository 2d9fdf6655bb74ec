"""Four forked workers walk through what they share with their parent: counting references copies every page of it."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["walk", "GRAPH", "worker"]
# corpus: seconds = 14
# corpus: python = "3.11"

import os
import time

import kit

GRAPH = [{"node": number, "edges": [number + 1, number + 7]} for number in range(150_000)]


def walk():
    """The whole graph in some ten seconds, again and again."""
    while True:
        for start in range(0, len(GRAPH), 3000):
            sum(len(node["edges"]) for node in GRAPH[start : start + 3000])
            time.sleep(0.2)


begun, begin = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.read(begun, 1)
        kit.in_background(walk)
        kit.idle()
        os._exit(0)
kit.ready()
os.write(begin, b"4444")
kit.idle()
