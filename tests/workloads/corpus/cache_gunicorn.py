"""gunicorn with one worker: fragments are kept under the whole address, with its changing argument."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["FRAGMENTS", "fragment"]
# corpus: seconds = 14
# corpus: needs = ["servers"]

FRAGMENTS = {}


def fragment(address):
    if address not in FRAGMENTS:
        FRAGMENTS[address] = "".join(f"<li>{address}#{item}</li>" for item in range(300))
    return FRAGMENTS[address]


def app(environ, start_response):
    page = fragment(environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--workers", "1", "--bind", f"127.0.0.1:{port}", "cache_gunicorn:app"]
    kit.web_server(command, port, "/page/{n}", rate=120)
