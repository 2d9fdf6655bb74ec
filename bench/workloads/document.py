"""A document of 30 MB parsed, regrouped and written, by json and by orjson: `document.py ROUNDS DOCUMENT`."""

import json
import pathlib
import sys

import orjson


def regrouped(document):
    by_code = {}
    for record in document["records"]:
        row = {
            "id": record["id"],
            "tags": len(record["tags"]),
            "sum": sum(one["value"] for one in record["past"]),
        }
        by_code.setdefault(record["address"]["code"][:2], []).append(row)
    return by_code


path = pathlib.Path(sys.argv[2])
for _ in range(int(sys.argv[1])):
    with path.open() as file:
        document = json.load(file)
    first = regrouped(document)
    del document
    document = orjson.loads(path.read_bytes())
    second = regrouped(document)
    del document
    assert json.loads(orjson.dumps(second)) == json.loads(json.dumps(first))
