"""uvicorn with three workers; each imports the application, and with it a dictionary of translations."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["TRANSLATIONS", "read_translations", "worker"]
# corpus: seconds = 12
# corpus: needs = ["servers"]


def read_translations():
    return {f"message {number}": (f"Nachricht {number}", f"bericht {number}") for number in range(150_000)}


if __name__ != "__main__":
    TRANSLATIONS = read_translations()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = TRANSLATIONS["message 5"][0].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import kit

    port = kit.free_port()
    command = [kit.program("uvicorn"), "--workers", "3", "--port", str(port), "--log-level", "warning"]
    kit.web_server([*command, "workers_uvicorn:app"], port, "/", rate=30)
