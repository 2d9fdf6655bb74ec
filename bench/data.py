"""Writes what the payload workloads read into a folder: `data.py FOLDER`. The same bytes each time.

A table of 50 MB, a JSON document of 30 MB, a picture of 12 megapixels.
"""

import json
import pathlib
import random
import sys

import numpy
from PIL import Image

TABLE_BYTES = 50_000_000
RECORDS = 95_000


def table(path, chance):
    towns = ("Aachen", "Bremen", "Coburg", "Dessau", "Emden", "Fulda", "Gera", "Husum")
    with path.open("w") as file:
        file.write("number,start,town,driver,kilometres,price,tip,stars,remark\n")
        number = 0
        while file.tell() < TABLE_BYTES:
            lines = []
            for number in range(number, number + 1000):
                start = "2024-%02d-%02dT%02d:%02d:00" % (
                    chance.randint(1, 12), chance.randint(1, 28), chance.randint(0, 23), chance.randint(0, 59)
                )
                lines.append(
                    f"{number},{start},{chance.choice(towns)},d{chance.randint(1, 5000)},{chance.uniform(0.3, 40):.3f},"
                    f"{chance.uniform(3, 99):.2f},{chance.uniform(0, 9):.2f},{chance.randint(1, 5)},"
                    f"remark {chance.getrandbits(30):x}\n"
                )
            number += 1
            file.writelines(lines)


def document(path, chance):
    def record(number):
        return {
            "id": number,
            "name": f"user{number}",
            "mail": f"user{number}@example.org",
            "active": number % 2 == 1,
            "score": round(chance.random() * 100, 4),
            "tags": [f"t{chance.randint(0, 500)}" for _ in range(chance.randint(1, 6))],
            "address": {
                "street": f"{chance.randint(1, 300)} {chance.choice(('Main', 'High', 'Oak'))} St",
                "code": str(chance.randint(10_000, 99_999)),
                "place": [round(chance.uniform(-90, 90), 5), round(chance.uniform(-180, 180), 5)],
            },
            "past": [
                {"time": chance.getrandbits(30), "value": chance.randint(0, 1000)} for _ in range(chance.randint(0, 5))
            ],
        }

    path.write_text(json.dumps({"version": 1, "records": [record(number) for number in range(RECORDS)]}))


def picture(path):
    coarse = numpy.random.default_rng(1).integers(0, 256, (75, 100, 3), dtype="uint8")
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(path, compress_level=1)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (
        ("table.csv", lambda path: table(path, random.Random(1))),
        ("document.json", lambda path: document(path, random.Random(2))),
        ("picture.png", picture),
    ):
        # Renamed when complete: an interrupted run leaves nothing that looks finished.
        unfinished = folder / f"unfinished-{name}"
        write(unfinished)
        unfinished.rename(folder / name)


main()
