"""An event bus: each session subscribes, and none is ever unsubscribed."""
# corpus: pattern = "retained_references"
# corpus: culprit = ["Bus.listeners", "subscribe", "Session"]
# corpus: seconds = 12

import kit


class Bus:
    def __init__(self):
        self.listeners = []

    def subscribe(self, callback):
        self.listeners.append(callback)


class Session:
    def __init__(self, bus, request):
        self.buffer = bytearray(6000)
        self.history = {"start": request["n"], "text": request["text"]}
        bus.subscribe(self.on_event)

    def on_event(self, event):
        self.history[event] = True


BUS = Bus()


def handle(request):
    return len(Session(BUS, request).buffer)


kit.serve(handle, rate=180, size=500)
