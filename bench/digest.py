"""Reads a report as JSON from standard input and prints, a line each, what two traces are compared by."""

import json
import sys


def place(code):
    return f"{code['file']}:{code['line']} {code['function']}" if code else "none"


def main():
    report = json.load(sys.stdin)
    quality = report["quality"]
    heap = report["ledgers"]["heap"]
    print("taken", quality["target_cost_ms"] / max(quality["target_cpu_ms"], 1))
    print("allocated", heap["alloc_space"], heap["alloc_space_standard_error"])
    print("surviving", heap["blocks_inuse_space"], heap["blocks_inuse_space_standard_error"])
    for paths in report["top_paths"]:
        if paths["ledger"] == "heap" and paths["value"] in ("alloc_space", "inuse_space"):
            name = "allocates" if paths["value"] == "alloc_space" else "keeps"
            for group in paths["top"]:
                print(name, place(group["code"]))


main()
