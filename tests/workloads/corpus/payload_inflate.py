"""Compressed exports come in by a socket; each is inflated whole: 60 KB become 30 MB for a moment, every two seconds."""
# corpus: pattern = "payload_or_traffic_pressure"
# corpus: culprit = ["decompress", "inflate"]
# corpus: seconds = 14
# corpus: python = "3.12"

import zlib

import kit


def inflate(stream):
    size = int.from_bytes(stream.read(4), "big")
    return zlib.decompress(stream.read(size)).count(b"\n")


server = kit.listener()
kit.outside("exports.py", server.getsockname()[1])
connection, _ = server.accept()
kit.ready()
with connection.makefile("rb") as stream:
    while stream.peek(1):
        inflate(stream)
