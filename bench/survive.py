"""What is left when a program is killed: by its cgroup's OOM killer and by SIGKILL, with pyalloc and with memray.

Run by `cargo xtask survive`, as root. The program (tests/workloads/doomed.py) counts what it keeps in a file before each
allocation; what a tool's file says was live is held against that. Prints a table in Markdown.
"""

import argparse
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

DOOMED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/workloads/doomed.py")
FUNCTIONS = ("hoard", "cache", "small")
# Bytes of one object of each: two blocks of the C allocator, and pymalloc's block for the small ones.
SIZES = {"hoard": 100_000, "cache": 20_000, "small": 448}
LIMIT = 64 << 20
ROUNDS = 300
# The process has memory of its own for a while, and memray's too.
MEMRAY_LIMIT = LIMIT + (48 << 20)

# Run by memray's own interpreter: bytes live at the end by innermost Python function.
MEMRAY_READER = """
import collections, json, sys, memray
sums = collections.Counter()
for record in memray.FileReader(sys.argv[1]).get_leaked_allocation_records(merge_threads=True):
    stack = record.stack_trace(max_stacks=1)
    sums[stack[0][0] if stack else ""] += record.size
print(json.dumps(sums))
"""


class Group:
    """A control group with a memory limit, of version 1 or 2."""

    def __init__(self, limit):
        name = f"pyalloc-survive-{os.getpid()}"
        one = os.path.exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")
        self.folder = os.path.join("/sys/fs/cgroup/memory" if one else "/sys/fs/cgroup", name)
        os.mkdir(self.folder)
        files = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if one else ("memory.max", "memory.swap.max")
        for file, number in zip(files, (limit, limit if one else 0)):
            path = os.path.join(self.folder, file)
            if os.path.exists(path):
                with open(path, "w") as out:
                    out.write(str(number))

    def add(self, pid):
        with open(os.path.join(self.folder, "cgroup.procs"), "w") as out:
            out.write(str(pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(1000):
            try:
                return os.rmdir(self.folder)
            except OSError:
                time.sleep(0.01)


def truth(path):
    with open(path, "rb") as file:
        return dict(zip(FUNCTIONS, struct.unpack("3Q", file.read())))


def start(command, folder, extra=()):
    path = os.path.join(folder, "truth")
    with open(path, "wb") as file:
        file.write(bytes(24))
    program = subprocess.Popen([*command, DOOMED, path, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    while '"ready"' not in (line := program.stdout.readline()):
        if not line:
            sys.exit(f"{command} did not start the program")
    return program, path


def kill(program, how):
    """Lets it be killed; true if it was."""
    if how == "oom":
        program.stdin.write("until killed\n")
        program.stdin.flush()
    else:
        program.stdin.write(f"grow {ROUNDS}\n")
        program.stdin.flush()
        program.stdout.readline()
        program.kill()
    return program.wait() == -signal.SIGKILL


def by_function(profile):
    sums = {}
    for row in profile["blocks"] + profile["pools"]:
        frame = profile["frames"][profile["stacks"][row["stack"]]["frame"]] if row["stack"] else None
        name = profile["strings"][frame["function"]] if frame else ""
        sums[name] = sums.get(name, 0) + row["inuse_space"]
    return sums


def with_pyalloc(options, how, folder):
    """Bytes live by function, and whether it says by what it was killed; None without a whole report."""
    program, path = start([options.python], folder)
    with Group(LIMIT) as group:
        group.add(program.pid)
        file = os.path.join(folder, "trace.pyalloc")
        trace = subprocess.Popen([options.pyalloc, "trace", "--pid", str(program.pid), "--ready", "/dev/stdout", "-o", file],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if trace.stdout.readline() != "attached\n":
            sys.exit("pyalloc did not attach")
        assert kill(program, how)
        report = " ".join(trace.stdout.read().split())
        if trace.wait() != 0:
            return None, False, truth(path)
    with open(file, "rb") as data:
        data.read(12)
        profile = json.loads(gzip.decompress(data.read()))
    sentence = "killed by the kernel's OOM killer: limit of cgroup" if how == "oom" else "killed by SIGKILL, sent by process"
    whole = profile["trace"]["complete"]
    return (by_function(profile) if whole else None), sentence in report, truth(path)


def with_memray(options, how, folder):
    file = os.path.join(folder, "memray.bin")
    command = [options.memray, "-m", "memray", "run", "--quiet", "--force", "-o", file]
    program, path = start(command, folder)
    with Group(MEMRAY_LIMIT) as group:
        group.add(program.pid)
        assert kill(program, how)
    stats = subprocess.run([options.memray, "-m", "memray", "stats", file], capture_output=True)
    read = subprocess.run([options.memray, "-c", MEMRAY_READER, file], capture_output=True, text=True)
    whole = stats.returncode == 0 and read.returncode == 0
    return (json.loads(read.stdout) if whole else None), False, truth(path)


def share(live, true):
    """Of the truly live bytes, those that are ranked under the function that holds them."""
    true_bytes = {name: true[name] * SIZES[name] for name in FUNCTIONS}
    ranked = sum(min(live.get(name, 0), true_bytes[name]) for name in FUNCTIONS)
    return ranked / sum(true_bytes.values())


def row(options, name, run, how):
    whole = first = told = 0
    shares = []
    for number in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            live, says, true = run(options, how, folder)
        told += says
        if live is None:
            shares.append(0.0)
        else:
            whole += 1
            first += max(live, key=live.get, default="") == "hoard"
            shares.append(share(live, true))
        print(f"\r{name}, {how}: {number + 1} of {options.repeats}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    of = f"of {options.repeats}"
    killer = "OOM killer" if how == "oom" else "SIGKILL"
    shares.sort()
    middle, least = shares[len(shares) // 2], shares[0]
    return (f"| {name} | {killer} | {whole} {of} | {told} {of} | {first} {of} | "
            f"{middle:.1%} ({least:.1%}) |").replace("%", " %")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pyalloc", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--memray", help="an interpreter that has memray")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    tools = [("pyalloc", with_pyalloc)] + ([("memray", with_memray)] if options.memray else [])
    print("| tool | killed by | whole | says by what | culprit first | truly live bytes ranked: median (least) |")
    print("|---|---|---|---|---|---|")
    for how in ("oom", "kill"):
        for name, run in tools:
            print(row(options, name, run, how), flush=True)


main()
