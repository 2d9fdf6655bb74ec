"""gunicorn: each upload of 4 MB is read whole and encoded whole, in four threads at a time."""
# corpus: pattern = "payload_or_traffic_pressure"
# corpus: culprit = ["store_upload", "b64encode", "read"]
# corpus: seconds = 14
# corpus: needs = ["servers"]

import base64
import time


def store_upload(stream, length):
    body = stream.read(length)
    encoded = base64.b64encode(body).decode()
    time.sleep(0.4)
    return len(encoded)


def app(environ, start_response):
    stored = store_upload(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
    page = str(stored).encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--workers", "1", "--worker-class", "gthread", "--threads", "4"]
    server = kit.start([*command, "--bind", f"127.0.0.1:{port}", "payload_uploads:app"])
    kit.wait_until_it_listens(port)
    kit.wait_until_steady(server.pid)
    kit.outside("web_load.py", port, "/", 4, 4_000_000, 4)
    kit.ready(server.pid)
    kit.finish(server)
