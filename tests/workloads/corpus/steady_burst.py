"""A table is loaded once more, in two copies for a moment, and the old one is given back: as large after it as before."""
# corpus: pattern = "no_growth"
# corpus: also = ["levels_off"]
# corpus: healthy = true
# corpus: seconds = 16
# corpus: python = "3.12"

import time

import kit


def load_table():
    return b"0123456789abcdef" * (40 << 16)


def reload():
    global TABLE
    time.sleep(4)
    fresh = load_table()
    time.sleep(1.5)
    TABLE = fresh


TABLE = load_table()
kit.in_background(reload, name="reload")
kit.serve(lambda request: len(TABLE), rate=50, size=300)
