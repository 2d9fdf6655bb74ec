"""Sends requests, as lines of JSON, and reads the answers.

    lines.py PORT RATE SIZE SECONDS
"""

import json
import socket
import sys
import time

import kit

port, rate, size, seconds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rwb") as stream:
    for number in kit.ticks(rate, seconds):
        # No two texts are the same.
        text = (f"{number:08x}" * (size // 8 + 1))[:size]
        stream.write(json.dumps({"n": number, "text": text}).encode() + b"\n")
        stream.flush()
        if not stream.readline():
            sys.exit()
    # The connection stays open: the other side sees silence, not an end.
    time.sleep(kit.LIFETIME)
