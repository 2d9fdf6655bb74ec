"""An extension that keeps a reference too many of each string it makes: the strings stay, and nothing refers to them."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["lostext", "describe"]
# corpus: seconds = 12
# corpus: needs = ["lostext"]
# corpus: python = "3.11"

import lostext

import kit


def describe(request):
    return len(lostext.labels(request["n"]))


kit.serve(describe, rate=250, size=200)
