"""Code objects that die, so that their addresses become those of others; each allocates a block of its own size.

Prints {"ready": true}, waits for a line, works, prints {"sizes": {name: size}, "lines": {name: line},
"addresses": distinct addresses of the code objects}, waits for a line, ends.
"""

import json
import sys

FUNCTIONS = 400
KEEP = [None] * FUNCTIONS
LINES = {}
SIZES = {}
ADDRESSES = set()


def make(number):
    name = f"function_{number}"
    LINES[name] = 2 + number % 50
    SIZES[name] = 20_000 + 16 * number
    source = "\n" * (number % 50) + f"def {name}(keep):\n    keep[{number}] = bytearray({SIZES[name] - 1})\n"
    names = {}
    exec(compile(source, f"/reuse/{number % 7}.py", "exec"), names)
    function = names.pop(name)  # no circle: it dies as soon as it has been called
    ADDRESSES.add(id(function.__code__))
    return function


def main():
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    for number in range(FUNCTIONS):
        make(number)(KEEP)
    print(json.dumps({"sizes": SIZES, "lines": LINES, "addresses": len(ADDRESSES)}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
