"""The requests fill a dictionary until they pause, and a thread that has nothing to do with them keeps what it polls."""
# corpus: pattern = "mixed"
# corpus: parts = ["unbounded_cache_or_queue", "background_state_while_idle"]
# corpus: culprit = ["USERS", "SAMPLES", "user", "poll"]
# corpus: seconds = 14
# corpus: python = "3.11"

import kit

USERS = {}
SAMPLES = []


def user(request):
    USERS[f"user {request['n']}"] = request["text"] * 2
    return len(USERS)


def poll():
    for number in kit.ticks(100):
        SAMPLES.append([number + step * 0.5 for step in range(300)])


kit.in_background(poll, name="poll")
kit.serve(user, rate=150, size=3000, quiet_after=9)
