"""A scheduler that appends every job it has finished to a list, for a report that nobody asks for."""
# corpus: pattern = "retained_references"
# corpus: culprit = ["Scheduler.finished", "Scheduler.run"]
# corpus: seconds = 12

import kit


class Job:
    def __init__(self, number, text):
        self.number = number
        self.words = [text[at : at + 16] for at in range(0, len(text), 16)]


class Scheduler:
    def __init__(self):
        self.finished = []

    def run(self, request):
        job = Job(request["n"], request["text"])
        total = sum(map(len, job.words))
        self.finished.append(job)
        return total


kit.serve(Scheduler().run, rate=150, size=2000)
