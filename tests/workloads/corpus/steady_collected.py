"""Cycles that the garbage collector finds: memory goes up and down like a saw, around one level."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 14
# corpus: python = "3.9"

import gc

import kit


class Node:
    def __init__(self, text):
        self.text = text
        self.me = self


def handle(request):
    return len([Node(request["text"][:20] + str(number)) for number in range(60)])


gc.set_threshold(4000, 5, 5)
for number in range(3000):
    handle({"n": number, "text": "before anybody looks"})
kit.serve(handle, rate=150, size=400)
