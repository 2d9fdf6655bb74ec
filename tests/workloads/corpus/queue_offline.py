"""Readings for a broker that is down: the client, an installed package, keeps each until it can be sent."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: also = ["background_state_while_idle"]
# corpus: culprit = ["Client._unsent", "Client.send", "send", "publish"]
# corpus: seconds = 12
# corpus: python = "3.9"

import json
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "site-packages"))

import kit
from postbox.client import Client

# Nobody listens there.
CLIENT = Client(("127.0.0.1", 1))


def publish(number):
    CLIENT.send("site/7/vibration", json.dumps({"number": number, "samples": [number / step for step in range(1, 90)]}))


kit.ready()
for number in kit.ticks(300):
    publish(number)
    if number % 300 == 0:
        CLIENT.try_again()
