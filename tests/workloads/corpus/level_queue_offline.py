"""The same client with a limit, while its broker is down: it is full after some seconds, and refuses what is over it."""
# corpus: pattern = "levels_off"
# corpus: also = ["no_growth"]
# corpus: healthy = true
# corpus: seconds = 22
# corpus: python = "3.9"

import json
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "site-packages"))

import kit
from postbox.client import Client

CLIENT = Client(("127.0.0.1", 1), most=3000)


def publish(number):
    CLIENT.send("site/7/vibration", json.dumps({"number": number, "samples": [number / step for step in range(1, 90)]}))


kit.ready()
for number in kit.ticks(300):
    publish(number)
