"""Requests are parsed, worked on, answered and forgotten: much is allocated, nothing stays."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 12

import json

import kit


def handle(request):
    rows = [{"at": at, "text": request["text"][at : at + 20]} for at in range(0, len(request["text"]), 20)]
    return len(json.dumps(rows))


for number in range(300):
    handle({"n": number, "text": "warm up " * 250})
kit.serve(handle, rate=150, size=2000)
