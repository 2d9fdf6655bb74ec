"""gunicorn without --preload: each of three workers makes the same table."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["TABLE", "load_table", "worker"]
# corpus: seconds = 12
# corpus: needs = ["servers"]


def load_table():
    return {f"city-{number}": [number * 1.5 + step for step in range(10)] for number in range(60_000)}


TABLE = load_table() if __name__ != "__main__" else {}


def app(environ, start_response):
    page = str(TABLE["city-77"]).encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--workers", "3", "--bind", f"127.0.0.1:{port}", "workers_gunicorn_tables:app"]
    kit.web_server(command, port, "/", rate=30)
