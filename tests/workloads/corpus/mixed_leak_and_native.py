"""A list of all requests, and an extension that leaks as much again for each of them."""
# corpus: pattern = "mixed"
# corpus: parts = ["retained_references", "native_leak"]
# corpus: culprit = ["AUDIT", "lostext", "handle"]
# corpus: seconds = 14
# corpus: needs = ["lostext"]

import lostext

import kit

AUDIT = []


def handle(request):
    AUDIT.append(request)
    request["words"] = [request["text"][at : at + 10] for at in range(0, 1000, 10)]
    return lostext.parse(request["text"] + ",")


kit.serve(handle, rate=120, size=2500)
