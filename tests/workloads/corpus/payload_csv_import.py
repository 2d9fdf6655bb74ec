"""A batch job: reads a file of 6 MB, every three seconds, into a list of dictionaries, and drops it after a sum."""
# corpus: pattern = "payload_or_traffic_pressure"
# corpus: culprit = ["import_rows", "DictReader", "__next__"]
# corpus: seconds = 16
# corpus: python = "3.11"

import csv
import os
import tempfile

import kit


def write_table(path):
    with open(path, "w") as table:
        table.write("number,customer,amount,note\n")
        table.writelines(f"{row},customer {row % 991},{row * 0.5},paid by card\n" for row in range(130_000))


def import_rows(path):
    with open(path, newline="") as table:
        rows = list(csv.DictReader(table))
    return sum(float(row["amount"]) for row in rows)


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "table.csv")
    write_table(path)
    kit.ready()
    for _ in kit.ticks(1 / 3):
        import_rows(path)
