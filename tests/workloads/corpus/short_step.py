"""Something arrives once in a long while; in the three seconds of the watch it came once, and stays."""
# corpus: pattern = "not_enough_data"
# corpus: also = ["no_growth"]
# corpus: healthy = true
# corpus: seconds = 3
# corpus: python = "3.12"

import time

import kit

REPORTS = []

kit.ready()
for number in range(10):
    time.sleep(2.2 if number == 0 else 30)
    REPORTS.append([f"report {number} line {line}" for line in range(20_000)])
