"""Sends requests to a web server: GET, or POST if there is a body. `{n}` in the path becomes the request's number.

    web_load.py PORT PATH RATE SIZE [ABREAST [AFTER]]

It waits until somebody listens, and then for AFTER seconds.
"""

import http.client
import json
import sys
import threading
import time

import kit

port, path, rate, size = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
abreast = int(sys.argv[5]) if len(sys.argv) > 5 else 1
# A list of small documents, as services send them to each other.
document = {"id": 123456, "name": "some customer", "tags": ["a", "b"], "price": 12.5, "note": None}
body = json.dumps([document] * (size // len(json.dumps(document)))).encode() if size else None


def send(offset):
    for number in kit.ticks(rate / abreast):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST" if body else "GET", path.replace("{n}", str(number * abreast + offset)), body)
            connection.getresponse().read()
        except ConnectionRefusedError:
            return
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()


kit.wait_until_it_listens(port)
time.sleep(float(sys.argv[6]) if len(sys.argv) > 6 else 0)
threads = [threading.Thread(target=send, args=(offset,)) for offset in range(abreast)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
