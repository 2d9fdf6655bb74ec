"""gunicorn with three workers that each hold the same table, and each fill a cache of their own."""
# corpus: pattern = "mixed"
# corpus: parts = ["unbounded_cache_or_queue", "process_model_multiplication"]
# corpus: culprit = ["VIEWS", "view"]
# corpus: seconds = 14
# corpus: needs = ["servers"]

TABLE = {f"city-{number}": [number * 1.5 + step for step in range(10)] for number in range(50_000)}
VIEWS = {}


def view(address):
    if address not in VIEWS:
        VIEWS[address] = [f"{address} {city}" for city in range(150)]
    return VIEWS[address]


def app(environ, start_response):
    page = "\n".join(view(environ["PATH_INFO"])).encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--workers", "3", "--bind", f"127.0.0.1:{port}"]
    kit.web_server([*command, "mixed_cache_and_workers:app"], port, "/view/{n}", rate=120)
