"""A cache without a bound, watched for a second and a half: it may be filling, or leaking."""
# corpus: pattern = "not_enough_data"
# corpus: seconds = 1.5

import kit

ANSWERS = {}


def answer(request):
    ANSWERS[request["n"]] = request["text"] * 2
    return len(ANSWERS)


kit.serve(answer, rate=100, size=2000)
