"""gunicorn with --preload and a frozen heap: two workers share one table, and answer requests."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 14
# corpus: needs = ["servers"]

import gc

TABLE = [bytearray(50_000) for _ in range(800)] if __name__ != "__main__" else []
gc.freeze()


def app(environ, start_response):
    page = str(len(TABLE)).encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("gunicorn"), "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    kit.web_server([*command, "steady_preloaded:app"], port, "/", rate=80)
