"""2to3 over pyperformance's own sources for it: `two_to_three.py ROUNDS`.

lib2to3 left the standard library with CPython 3.13; pyperformance carries a copy for its benchmark, which is used here
on every version. Its benchmark starts a new process for each round: this one stays in one.
"""

import contextlib
import io
import logging
import pathlib
import sys

import pyperformance

BENCHMARK = pathlib.Path(pyperformance.__file__).parent / "data-files/benchmarks/bm_2to3"
sys.path.insert(0, str(BENCHMARK / "vendor/src"))

from lib2to3.main import main  # noqa: E402

logging.disable(logging.INFO)
sources = sorted(str(path) for path in (BENCHMARK / "data/2to3").glob("*.py.txt"))
assert sources
with contextlib.redirect_stdout(io.StringIO()) as changes:
    for _ in range(int(sys.argv[1])):
        main("lib2to3.fixes", ["--fix", "all", *sources])
assert changes.getvalue()
