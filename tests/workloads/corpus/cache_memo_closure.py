"""A decorator of one's own that remembers results in a dictionary of its closure."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["seen", "remembered", "memoize"]
# corpus: seconds = 12
# corpus: python = "3.8"

import functools

import kit


def memoize(function):
    seen = {}

    @functools.wraps(function)
    def remembered(text):
        if text not in seen:
            seen[text] = function(text)
        return seen[text]

    return remembered


@memoize
def tokens(text):
    return tuple(text[at : at + 12] for at in range(0, len(text), 12))


kit.serve(lambda request: len(tokens(request["text"] + str(request["n"]))), rate=150, size=1500)
