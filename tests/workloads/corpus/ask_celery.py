"""Gives an application of Celery tasks: each gets its number.

    ask_celery.py MODULE TASK RATE
"""

import importlib
import sys

import kit

task = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
for number in kit.ticks(float(sys.argv[3])):
    task.delay(number).get(timeout=20)
