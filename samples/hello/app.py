"""A small web application: says which run, commit and colour answer, is healthy when it can, and stops politely."""

from __future__ import annotations

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def greeting(name: str) -> str:
    """Return the greeting for `name`; nobody in particular is the world."""
    return f"Hello, {name.strip() or 'world'}!"


def whoami() -> dict[str, str]:
    """Return what the pipeline told this process about itself."""
    return {key.lower(): os.environ.get(f"PIPE_{key}", "") for key in ("RUN", "COMMIT", "COLOUR", "ENVIRONMENT")}


class Handler(BaseHTTPRequestHandler):
    """Answers `/`, `/hello/<name>` and `/healthz`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path == "/healthz":
            self._answer(200, {"status": "ok"})
        elif self.path == "/":
            self._answer(200, {"greeting": greeting(""), **whoami()})
        elif self.path.startswith("/hello/"):
            self._answer(200, {"greeting": greeting(self.path.removeprefix("/hello/"))})
        else:
            self._answer(404, {"error": f"there is nothing at {self.path}"})

    def _answer(self, status: int, value: dict[str, str]) -> None:
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing for each request; the proxy counts them."""


class Server(ThreadingHTTPServer):
    """Finishes the requests under way before it ends."""

    daemon_threads = False
    request_queue_size = 128


def main() -> None:
    """Serve on $PORT until SIGTERM, then finish what is under way."""
    server = Server(("", int(os.environ.get("PORT", "8000"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
