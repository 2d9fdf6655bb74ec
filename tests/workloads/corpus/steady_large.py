"""One process with a large table that it was started for; it serves requests from it and does not grow."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 12
# corpus: python = "3.10"

import kit

TABLE = {f"user-{number}": [number * 0.5 + step for step in range(12)] for number in range(150_000)}


def handle(request):
    return TABLE[f"user-{request['n']}"]


kit.serve(handle, rate=100, size=500)
