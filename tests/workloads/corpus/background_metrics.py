"""A web service that nobody asks anything, with a thread that takes samples of the system and keeps all of them."""
# corpus: pattern = "background_state_while_idle"
# corpus: culprit = ["History.points", "sample"]
# corpus: seconds = 12

import kit


class History:
    def __init__(self):
        self.points = []

    def sample(self):
        for number in kit.ticks(100):
            with open("/proc/self/status") as status:
                lines = status.read().splitlines()
            self.points.append({"at": number, "values": dict(line.split(":", 1) for line in lines)})


kit.in_background(History().sample, name="metrics")
kit.serve(lambda request: "ok", rate=1, quiet_after=0.5)
