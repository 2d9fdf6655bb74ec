"""Celery's prefork pool: three workers, each of which loads a price list when it starts."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["PRICES", "load_prices", "worker"]
# corpus: seconds = 12
# corpus: needs = ["servers", "redis"]

import os

from celery import Celery
from celery.signals import worker_process_init

broker = os.environ["PYALLOC_TEST_BROKER"]
app = Celery("workers_celery", broker=broker, backend=broker)
app.conf.broker_connection_retry_on_startup = True
PRICES = {}


@worker_process_init.connect
def load_prices(**_):
    PRICES.update((f"article {number}", (number, number * 1.2)) for number in range(120_000))


@app.task
def price(number):
    return PRICES[f"article {number}"][1]


if __name__ == "__main__":
    import kit

    command = [kit.program("celery"), "--app", "workers_celery", "worker", "--concurrency", "3", "--pool", "prefork"]
    server = kit.start([*command, "--loglevel", "ERROR"])
    # Every worker that has answered has loaded its list.
    for number in range(12):
        price.delay(number).get(timeout=60)
    kit.wait_until_steady(server.pid)
    kit.outside("ask_celery.py", "workers_celery", "price", 20)
    kit.ready(server.pid)
    kit.finish(server)
