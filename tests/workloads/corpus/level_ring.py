"""The last 700 samples in a deque with maxlen, in an asyncio program that is otherwise idle."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20
# corpus: python = "3.8"

import asyncio
import collections

import kit

SAMPLES = collections.deque(maxlen=700)


async def sample():
    number = 0
    while True:
        SAMPLES.append({"at": number, "values": [number + step * 0.1 for step in range(600)]})
        number += 1
        await asyncio.sleep(0.01)


kit.ready()
asyncio.run(sample())
