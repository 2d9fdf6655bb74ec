"""A line server whose clients send ever larger documents; each is parsed and forgotten."""
# corpus: pattern = "payload_or_traffic_pressure"
# corpus: culprit = ["loads", "raw_decode", "receive", "readline", "scan_once"]
# corpus: seconds = 14
# corpus: python = "3.9"

import json

import kit


def receive(stream):
    return len(json.loads(stream.readline()))


server = kit.listener()
kit.outside("growing.py", server.getsockname()[1])
connection, _ = server.accept()
kit.ready()
with connection.makefile("rb") as stream:
    while stream.peek(1):
        receive(stream)
