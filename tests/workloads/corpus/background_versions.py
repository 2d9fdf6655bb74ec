"""A poller reloads the settings ten times a second and keeps each version, for an undo that nobody uses."""
# corpus: pattern = "background_state_while_idle"
# corpus: culprit = ["VERSIONS", "reload", "poll"]
# corpus: seconds = 12
# corpus: python = "3.11"

import json

import kit

SETTINGS = json.dumps({f"option {number}": {"value": number, "from": "default"} for number in range(400)})
VERSIONS = []


def reload():
    VERSIONS.append(json.loads(SETTINGS))


def poll():
    for _ in kit.ticks(12):
        reload()


kit.in_background(poll, name="settings")
kit.ready()
kit.idle()
