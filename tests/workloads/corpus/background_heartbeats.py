"""An agent with nothing to do: its heartbeats are tasks, and a set keeps each of them, also when it has ended."""
# corpus: pattern = "background_state_while_idle"
# corpus: culprit = ["Agent.tasks", "beat", "run"]
# corpus: seconds = 12
# corpus: python = "3.10"

import asyncio

import kit


class Agent:
    def __init__(self):
        self.tasks = set()

    async def beat(self, number):
        await asyncio.sleep(0.01)
        return f"alive {number} " + "." * 1500

    async def run(self):
        for number in range(kit.LIFETIME * 10):
            for part in range(40):
                self.tasks.add(asyncio.ensure_future(self.beat(number * 40 + part)))
            await asyncio.sleep(0.1)


kit.ready()
asyncio.run(Agent().run())
