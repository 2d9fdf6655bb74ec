"""A job that ends two seconds after somebody began to watch it."""
# corpus: pattern = "not_enough_data"
# corpus: healthy = true
# corpus: seconds = 12
# corpus: python = "3.10"

import time

import kit

kit.ready()
rows = []
for number in range(35):
    rows.append(bytearray(100_000))
    time.sleep(0.1)
