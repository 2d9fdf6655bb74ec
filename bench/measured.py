"""Runs a script and measures it from inside: `measured.py SCRIPT ARGUMENT...`.

Says `ready`, waits for a line, runs the script, and answers with what it took: wall ns, CPU ns (children that have
ended included) and page faults, then waits for the end of its input. A tracer that attaches while it waits has its own
start and end outside of what is measured. The script's imports are inside: they fault too.
"""

import os
import resource
import runpy
import sys
import time


def usage():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (
        time.perf_counter_ns(),
        sum(int((one.ru_utime + one.ru_stime) * 1e9) for one in both),
        sum(one.ru_minflt for one in both),
    )


def main():
    # What the script prints is not an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print("ready", file=answers, flush=True)
    sys.stdin.readline()
    script, sys.argv = sys.argv[1], sys.argv[1:]
    sys.path[0] = os.path.dirname(script)
    before = usage()
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    after = usage()
    print(*(late - early for early, late in zip(before, after)), file=answers, flush=True)
    sys.stdin.readline()


main()
