"""A program that has just been started, and still loads what it needs, watched for two seconds."""
# corpus: pattern = "not_enough_data"
# corpus: healthy = true
# corpus: seconds = 2
# corpus: python = "3.11"

import time

import kit

TABLES = []

kit.ready()
for number in range(60):
    TABLES.append({f"{number}/{row}": row for row in range(3000)})
    time.sleep(0.1)
kit.idle()
