"""A Celery application with a leak in one task: each worker process says what it has kept."""

import os

from celery import Celery

broker = os.environ["PYALLOC_TEST_BROKER"]
app = Celery("tasks", broker=broker, backend=broker)
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True

KEPT = []


def remember(blocks, size):
    # bytearray(n) asks the C allocator for n + 1 bytes.
    KEPT.extend(bytearray(size - 1) for _ in range(blocks))


@app.task
def leak(blocks, size):
    remember(blocks, size)
    return {"pid": os.getpid(), "kept": len(KEPT)}
