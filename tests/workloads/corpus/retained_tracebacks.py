"""Failed requests are kept with their exceptions; their tracebacks keep every frame's locals: the parsed payloads."""
# corpus: pattern = "retained_references"
# corpus: culprit = ["ERRORS", "handle", "validate"]
# corpus: seconds = 12
# corpus: python = "3.9"

import kit

ERRORS = []


def validate(request):
    rows = [{"column": at, "value": request["text"][at : at + 8]} for at in range(0, len(request["text"]), 8)]
    if len(rows) % 7:
        raise ValueError("row is not complete")
    return rows


def handle(request):
    try:
        return len(validate(request))
    except ValueError as error:
        ERRORS.append((request["n"], error))
        return str(error)


kit.serve(handle, rate=60, size=800)
