"""gunicorn without a request: a thread that the application starts takes snapshots, and keeps them."""
# corpus: pattern = "background_state_while_idle"
# corpus: culprit = ["SNAPSHOTS", "take_snapshots"]
# corpus: seconds = 14
# corpus: needs = ["servers"]

import sys
import threading
import time

SNAPSHOTS = []


def take_snapshots():
    while True:
        SNAPSHOTS.append([repr(module) for module in list(sys.modules.values())[:120]])
        time.sleep(0.02)


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


if __name__ != "__main__":
    threading.Thread(target=take_snapshots, name="snapshots", daemon=True).start()
else:
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--workers", "1", "--bind", f"127.0.0.1:{port}", "background_gunicorn:app"]
    server = kit.start(command)
    kit.wait_until_it_listens(port)
    kit.wait_until_steady(server.pid)
    kit.ready(server.pid)
    kit.finish(server)
