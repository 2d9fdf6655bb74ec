"""What the workloads of the corpus share: the word that they are ready, a clock, and traffic from outside.

A workload prints one line of JSON, {"ready": true, "pid": PID}, waits for a line on its standard input, and then does what
it does for LIFETIME seconds or until it is killed. What sends it requests is no child of it: it does not belong to the processes that are looked at.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time

# Seconds after which every workload ends by itself.
LIFETIME = 90
HERE = os.path.dirname(os.path.abspath(__file__))


def ready(pid=None):
    """Says so, and waits for the word that somebody watches."""
    print(json.dumps({"ready": True, "pid": pid or os.getpid()}), flush=True)
    sys.stdin.readline()


def ticks(per_second, seconds=LIFETIME):
    """Counts up at a rate that does not drift, for some seconds."""
    start = time.monotonic()
    number = 0
    while time.monotonic() - start < seconds:
        yield number
        number += 1
        time.sleep(max(0.0, start + number / per_second - time.monotonic()))


def in_background(function, *arguments, name=None):
    thread = threading.Thread(target=function, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def outside(*words):
    """Runs a program of this folder that is no descendant of ours: its parent ends before it begins."""
    middle = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)"
    program = [sys.executable, os.path.join(HERE, words[0]), *map(str, words[1:])]
    subprocess.run([sys.executable, "-c", middle, *program], check=True)


def listener():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 0))
    server.listen(64)
    return server


def free_port():
    with listener() as server:
        return server.getsockname()[1]


def wait_until_it_listens(port):
    for _ in ticks(20, 30):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit(f"nobody listens on port {port}")


def resident(pid):
    """Pages in memory of a process and its children."""
    try:
        with open(f"/proc/{pid}/statm") as statm, open(f"/proc/{pid}/task/{pid}/children") as children:
            return int(statm.read().split()[1]) + sum(map(resident, children.read().split()))
    except FileNotFoundError:
        return 0


def wait_until_steady(pid):
    """Until a service with its children has been as large for a second: its workers have started."""
    last, since = 0, 0
    for number in ticks(10, 30):
        pages = resident(pid)
        if abs(pages - last) > 64:
            last, since = pages, number
        elif number - since >= 10:
            return


def serve(handle, rate, size=200, quiet_after=LIFETIME):
    """A server of lines of JSON, in this thread: `rate` requests a second, each {"n": number, "text": `size` letters}.

    `handle` gets the parsed request; what it returns is the answer. After `quiet_after` seconds no more come.
    """
    server = listener()
    outside("lines.py", server.getsockname()[1], rate, size, quiet_after)
    connection, _ = server.accept()
    ready()
    with connection, connection.makefile("rwb") as stream:
        for line in stream:
            answer = handle(json.loads(line))
            stream.write(json.dumps(answer, default=str).encode() + b"\n")
            stream.flush()
    idle()


def idle():
    time.sleep(LIFETIME)


def web_server(command, port, path, rate, size=0, **environment):
    """A web server as a child, requests to it by lines of `web_load.py`; ready when it listens, under its own pid."""
    server = start(command, **environment)
    wait_until_it_listens(port)
    wait_until_steady(server.pid)
    outside("web_load.py", port, path, rate, size)
    ready(server.pid)
    finish(server)


def start(command, **environment):
    variables = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **environment)
    return subprocess.Popen(command, cwd=HERE, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def finish(server):
    try:
        server.wait(LIFETIME)
    except subprocess.TimeoutExpired:
        server.terminate()
        server.wait()


def program(name):
    """A program of the environment that we run in."""
    return os.path.join(os.path.dirname(sys.executable), name)
