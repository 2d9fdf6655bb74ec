"""Load on the orders service: a fixed rate for a fixed time, on loopback only.

load.py PORT SECONDS [REQUESTS_PER_SECOND]

Waits for the service to answer, prints `serving`, and at the end one line of totals.
"""

import base64
import http.client
import json
import random
import sys
import threading
import time

HOST = "127.0.0.1"
WORKERS = 4
START_TIMEOUT = 30


def order(rng):
    """An order as a shop's front end posts it: about 16 KB, of which the label is 8 KB."""
    lines = [
        {
            "article": f"A-{rng.randrange(100000):05}",
            "text": "bolt, zinc plated, " + "x" * rng.randrange(20, 60),
            "quantity": rng.randrange(1, 20),
            "price": rng.randrange(100, 10000) / 100,
        }
        for _ in range(50)
    ]
    label = base64.b64encode(rng.randbytes(6 * 1024)).decode()
    return {"customer": f"customer {rng.randrange(500)}", "lines": lines, "label": label}


def wait_until_up(port):
    """Ask until the service answers: its own first answer is the signal."""
    give_up = time.monotonic() + START_TIMEOUT
    while True:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > give_up:
            sys.exit(f"load.py: no answer on port {port} after {START_TIMEOUT} s")
        time.sleep(0.05)


def ask(connection, method, path, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    data = response.read()
    if response.status >= 400:
        raise OSError(f"{method} {path}: status {response.status}")
    return data


def drive(port, seconds, rate, seed, totals):
    """One client: of ten requests six post an order, two read an invoice, one reads JSON, one the overview."""
    rng = random.Random(seed)
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    start = time.monotonic()
    last = None
    for turn in range(int(seconds * rate)):
        due = start + turn / rate
        time.sleep(max(0.0, due - time.monotonic()))
        if time.monotonic() - start > seconds:
            break
        kind = turn % 10
        try:
            if last is None or kind < 6:
                last = json.loads(ask(connection, "POST", "/orders", json.dumps(order(rng))))["id"]
            elif kind < 8:
                ask(connection, "GET", f"/orders/{last}/invoice")
            elif kind == 8:
                ask(connection, "GET", f"/orders/{last}")
            else:
                ask(connection, "GET", "/")
            totals["requests"] += 1
        except (OSError, http.client.HTTPException):
            totals["failed"] += 1
            connection.close()


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 150.0
    if not (0 < seconds <= 600 and 0 < rate <= 1000):
        sys.exit("load.py: at most 600 seconds and 1000 requests per second")
    wait_until_up(port)
    print("serving", flush=True)
    totals = [{"requests": 0, "failed": 0} for _ in range(WORKERS)]
    threads = [
        threading.Thread(target=drive, args=(port, seconds, rate / WORKERS, seed, totals[seed]), daemon=True)
        for seed in range(WORKERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{sum(t['requests'] for t in totals)} requests, {sum(t['failed'] for t in totals)} failed", flush=True)


if __name__ == "__main__":
    main()
