"""A service that warms up: imports late, makes its tables bit by bit as they are first asked for, then has all it needs."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.11"

import importlib

import kit

TABLES = {}
MODULES = ["xml.dom.minidom", "email.message", "unittest.mock", "sqlite3", "http.server", "asyncio", "decimal", "csv"]


def table_for(region):
    if region not in TABLES:
        importlib.import_module(MODULES[region % len(MODULES)])
        TABLES[region] = {f"{region}/{street}": street * 2 for street in range(7000)}
    return TABLES[region]


kit.serve(lambda request: len(table_for(min(request["n"] // 4, 30) % 31)), rate=20, size=200)
