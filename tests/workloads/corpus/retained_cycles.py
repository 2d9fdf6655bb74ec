"""Documents with links to their parents, in a service that has turned the garbage collector off: nothing but the cycles
themselves refers to them."""
# corpus: pattern = "retained_references"
# corpus: culprit = ["Node", "parse_document"]
# corpus: seconds = 12
# corpus: python = "3.12"

import gc

import kit


class Node:
    def __init__(self, parent, text):
        self.parent = parent
        self.text = text
        self.children = []


def parse_document(request):
    root = Node(None, request["text"])
    for at in range(0, len(request["text"]), 40):
        root.children.append(Node(root, request["text"][at : at + 40]))
    return len(root.children)


gc.disable()
kit.serve(parse_document, rate=120, size=2000)
