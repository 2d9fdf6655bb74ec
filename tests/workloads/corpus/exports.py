"""Sends a compressed export every two seconds: its length in four bytes, then it.

    exports.py PORT
"""

import socket
import sys
import zlib

import kit

export = zlib.compress(b"0,0,1,0,some customer,\n" * 1_300_000, 1)
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    for _ in kit.ticks(0.5):
        connection.sendall(len(export).to_bytes(4, "big") + export)
