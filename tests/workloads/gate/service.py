"""A service: each request exports the same and keeps a little. Says its port when it listens."""

import json
import socketserver

import shop

CART = shop.Cart()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        answer = shop.export([bytes(1000)] * 400)
        CART.keep(bytearray(2_000))
        self.wfile.write(b"%d\n" % len(answer))


with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
    print(json.dumps({"ready": True}), flush=True)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()
