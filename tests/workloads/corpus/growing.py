"""Sends lines of JSON, twice a second, each longer than the one before, up to 12 MB.

    growing.py PORT
"""

import json
import socket
import sys

import kit

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    for number in kit.ticks(2):
        documents = [{"id": item, "value": item * 0.5} for item in range(min(10_000 * (number + 1), 300_000))]
        connection.sendall(json.dumps(documents).encode() + b"\n")
