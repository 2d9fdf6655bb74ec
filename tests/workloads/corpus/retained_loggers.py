"""A logger named after each request, with a handler of its own: logging keeps every logger for ever."""
# corpus: pattern = "retained_references"
# corpus: also = ["unbounded_cache_or_queue"]
# corpus: culprit = ["loggerDict", "getLogger", "handle"]
# corpus: seconds = 12
# corpus: python = "3.11"

import io
import logging

import kit


def handle(request):
    log = logging.getLogger(f"request.{request['n']}")
    log.propagate = False
    log.addHandler(logging.StreamHandler(io.StringIO()))
    log.warning("got %s", request["text"])
    return request["n"]


kit.serve(handle, rate=200, size=2000)
