"""Prints what this interpreter says of the lines of every code object in the modules named, or all that it finds.

    dump_line_tables.py FILE_OR_MODULE...

One line of JSON a code object: {"name", "first": co_firstlineno, "table": hexadecimal of co_linetable (co_lnotab
before 3.10), "lines": [line or null of each two-byte code unit]}.
"""

import dis
import importlib.util
import json
import sys
import types


def units(code):
    size = len(code.co_code)
    if hasattr(code, "co_positions"):
        return [position[0] for position in code.co_positions()]
    lines = [None] * (size // 2)
    if hasattr(code, "co_lines"):
        for start, end, line in code.co_lines():
            lines[start // 2:end // 2] = [line] * ((end - start) // 2)
        return lines
    starts = dict(dis.findlinestarts(code))
    line = code.co_firstlineno
    for offset in range(0, size, 2):
        line = starts.get(offset, line)
        lines[offset // 2] = line
    return lines


def dump(code):
    table = code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab
    print(json.dumps({
        "name": code.co_name,
        "first": code.co_firstlineno,
        "table": table.hex(),
        "lines": units(code),
    }))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            dump(constant)


for name in sys.argv[1:]:
    path = name if name.endswith(".py") else importlib.util.find_spec(name).origin
    with open(path, "rb") as file:
        dump(compile(file.read(), path, "exec"))
