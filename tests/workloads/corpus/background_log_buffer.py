"""A handler that buffers log records until an error comes; a housekeeping thread logs, and no error ever comes."""
# corpus: pattern = "background_state_while_idle"
# corpus: also = ["unbounded_cache_or_queue"]
# corpus: culprit = ["MemoryHandler.buffer", "BufferingHandler.buffer", "housekeeping", "emit"]
# corpus: seconds = 12
# corpus: python = "3.8"

import logging
import logging.handlers

import kit

target = logging.NullHandler()
log = logging.getLogger("housekeeping")
log.addHandler(logging.handlers.MemoryHandler(10**9, flushLevel=logging.ERROR, target=target))
log.setLevel(logging.INFO)
log.propagate = False


def housekeeping():
    for number in kit.ticks(400):
        log.info("swept %d: %s", number, "nothing to do, " * 150 + str(number))


kit.in_background(housekeeping, name="housekeeping")
kit.ready()
kit.idle()
