"""Connections to a Docker daemon, one question at a time each, and its errors as ours.

The SDK's client is a requests session, which is not made to be shared by threads; so each question borrows a
client and gives it back. The SDK is imported only when the first question is asked. What is asked is not known here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipeError
from runners.engines import complaints

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from docker.errors import APIError

DEFAULT_URL = "unix:///var/run/docker.sock"
_TIMEOUT_SECONDS = 120


def current_url(folder: Path | None = None) -> str:
    """Return the address that the docker CLI would use: its current context's, else the usual socket."""
    folder = folder or Path.home() / ".docker"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        name = json.loads((folder / "config.json").read_text())["currentContext"]
        if name != "default":
            meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
            return str(json.loads(meta.read_text())["Endpoints"]["docker"]["Host"])
    return DEFAULT_URL


class Daemon:
    """A Docker daemon at an address."""

    def __init__(self, url: str, *, timeout_seconds: int = _TIMEOUT_SECONDS) -> None:
        self.url = url or current_url()
        self._timeout_seconds = timeout_seconds
        self._version = "auto"
        self._lock = threading.Lock()
        self._idle: list[APIClient] = []
        self._closed = False

    @contextlib.contextmanager
    def asked(self, doing: str, *, subject: str = "", started: bool = False) -> Iterator[APIClient]:
        """Lend a client for one question, and turn what the daemon complains of into an error of ours.

        `doing` and `subject` are for people. `started` says that something of ours depends on this daemon
        already, so that losing it is the cause `runner_lost`.
        """
        try:
            self._knock()
        except OSError as error:
            raise self._gone(str(error), started=started) from error
        client = self._borrow(started=started)
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        healthy = True
        try:
            yield client
        except APIError as error:
            raise complaints.refused(explanation(error), doing=doing, subject=subject) from error
        except (DockerException, RequestException, HTTPError, OSError) as error:
            healthy = False
            raise self._gone(str(error), started=started) from error
        finally:
            self._give_back(client, healthy=healthy)

    def check(self) -> None:
        """Raise Unavailable unless somebody listens at the address; costs less than a first question."""
        try:
            self._knock()
        except OSError as error:
            raise complaints.unreachable(str(error), where=self.url) from error

    def close(self) -> None:
        """Close all connections that are not in use; those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    def _borrow(self, *, started: bool) -> APIClient:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect(started=started)

    def _connect(self, *, started: bool) -> APIClient:
        from docker.api.client import APIClient
        from docker.errors import DockerException

        try:
            client = APIClient(base_url=self.url, version=self._version, timeout=self._timeout_seconds)
        except (DockerException, OSError, ValueError) as error:
            raise self._gone(str(error), started=started) from error
        client.trust_env = not self.url.startswith(
            "unix:"
        )  # no proxy leads to a socket; looking is half of a call's cost
        self._version = client.api_version
        return client

    def _knock(self) -> None:
        """Connect once ourselves (50 microseconds): the SDK leaves a socket open behind it when nobody answers."""
        if self.url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(self.url.removeprefix("unix://"))

    def _give_back(self, client: APIClient, *, healthy: bool) -> None:
        with self._lock:
            if healthy and not self._closed:
                self._idle.append(client)
                return
        client.close()

    def _gone(self, text: str, *, started: bool) -> PipeError:
        if started:
            return complaints.lost(text, where=self.url)
        return complaints.unreachable(text, where=self.url)


def explanation(error: APIError) -> str:
    """Return the daemon's own words, which is all that it tells about most troubles."""
    text = error.explanation
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text or error)


@contextlib.contextmanager
def answered(client: APIClient, method: str, path: str, **wish: Any) -> Iterator[Any]:
    """Ask what the SDK has no fitting call for, and give the answer as a stream that is closed in any case."""
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    url = f"{client.base_url}/v{client.api_version}{path}"
    plain = {"Accept-Encoding": "identity"}  # a daemon that is asked would compress, at 20 MB/s
    with contextlib.closing(client.request(method, url, stream=True, timeout=None, headers=plain, **wish)) as answer:
        try:
            answer.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        yield answer
