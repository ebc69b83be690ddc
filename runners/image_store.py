"""The images that an engine holds: name, push, list and remove them. Which to keep is `image_budget`'s.

Over the docker SDK, whose classic builder is not used. Errors that a push only mentions in its stream are
errors here. All of a push ends when it is cancelled: its connection is cut, and the daemon lets go.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.errors import Unavailable
from pipeline.settings import Settings
from runners.engines.daemon import Daemon
from runners.logins import Login
from runners.registry import Repository

_REMOVE_SECONDS = 60  # one removal was seen to hang until the daemon was restarted
_PUSH_SILENCE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Stored:
    """An image that the engine holds."""

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]  # repository@digest
    labels: Mapping[str, str]
    size_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of the builder's cache."""

    id: str
    description: str
    size_bytes: int
    created_at: float
    used_at: float
    in_use: bool


@dataclass
class _Upload:
    """What a push has said so far."""

    say: Callable[[str], None]
    digest: str = ""
    states: dict[str, str] = field(default_factory=dict)

    def hear(self, told: Mapping[str, Any]) -> str:
        """Take one message, and return the error that it tells, or ""."""
        if told.get("error") or told.get("errorDetail"):
            return str((told.get("errorDetail") or {}).get("message") or told.get("error"))
        if isinstance(told.get("aux"), Mapping):
            self.digest = str(told["aux"].get("Digest") or self.digest)
        layer, state = str(told.get("id") or ""), str(told.get("status") or "")
        if layer and state != self.states.get(layer):
            self.states[layer] = state
            if state in ("Pushed", "Layer already exists") or state.startswith("Mounted from"):
                self.say(f"  {layer}: {state[0].lower()}{state[1:]}")
        return ""


class ImageStore:
    """The images of one engine."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; the engine is asked when the first question comes."""
        self._daemon = Daemon(settings.engine_url, timeout_seconds=_PUSH_SILENCE_SECONDS)
        self._impatient = Daemon(settings.engine_url, timeout_seconds=_REMOVE_SECONDS)

    def close(self) -> None:
        """Give the connections back."""
        self._daemon.close()
        self._impatient.close()

    def __enter__(self) -> ImageStore:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def name(self, image: str, repository: str, tag: str) -> None:
        """Give an image a name; the same again changes nothing."""
        with self._daemon.asked(f"naming the image {image}", subject=image) as client:
            client.tag(image, repository, tag)

    def push(
        self,
        repository: Repository,
        tag: str,
        login: Login | None,
        *,
        say: Callable[[str], None],
        cancelled: threading.Event,
    ) -> str:
        """Send a named image to its registry and return the digest of its manifest, "" when it was cancelled.

        Raises:
            Unavailable: the registry or the way to it is not in order, or refuses the login (cause "registry").
        """
        upload = _Upload(say)
        with self._daemon.asked(f"pushing to {repository}", subject=str(repository)) as client:
            for message in _messages(client, repository, tag, login, cancelled):
                if trouble := upload.hear(message):
                    raise _refused(repository, trouble)
        if cancelled.is_set():
            return ""
        if not upload.digest:
            raise _refused(repository, "the connection ended before the push was confirmed")
        return upload.digest

    def listing(self, labels: Mapping[str, str]) -> list[Stored]:
        """Return the images that carry these labels."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with self._impatient.asked("listing images") as client:
            return [_stored(entry) for entry in client.images(filters=filters)]

    def id_of(self, name: str) -> str | None:
        """Return the id of an image here, or None."""
        from docker.errors import ImageNotFound

        with self._impatient.asked(f"looking at the image {name}", subject=name) as client:
            try:
                return str(client.inspect_image(name)["Id"])  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None

    def history(self, image: str) -> list[dict[str, Any]]:
        """Return the steps of an image's history, the newest first; [] when it is gone."""
        from docker.errors import ImageNotFound

        with self._impatient.asked(f"looking at the image {image}", subject=image) as client:
            try:
                return list(client.history(image))  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return []

    def size_bytes(self, image: str) -> int:
        """Return the size of an image, layers shared with others included."""
        with self._impatient.asked(f"looking at the image {image}", subject=image) as client:
            return int(client.inspect_image(image)["Size"])  # type: ignore[no-untyped-call]

    def in_use(self) -> set[str]:
        """Return the ids of the images of all containers, running or not."""
        with self._impatient.asked("listing containers") as client:
            return {str(entry["ImageID"]) for entry in client.containers(all=True)}

    def remove(self, name: str) -> bool:
        """Remove a name or an id of an image, and what nothing else needs; False when something uses it."""
        from docker.errors import APIError, ImageNotFound

        with self._impatient.asked(f"removing the image {name}", subject=name) as client:
            try:
                client.remove_image(name, force=False, noprune=False)
            except ImageNotFound:
                return True
            except APIError as error:
                if error.status_code == 409:
                    return False
                raise
        return True

    def cache_entries(self) -> list[CacheEntry]:
        """Return what the builder's cache holds beside the layers of images."""
        with self._impatient.asked("measuring the build cache") as client:
            entries = client.df().get("BuildCache") or []
        return [_cached(entry) for entry in entries if not entry.get("Shared")]

    def remove_cache_entry(self, entry: str) -> int:
        """Let the builder drop one entry of its cache; return the bytes won, 0 when something needs it."""
        which: Any = {"id": entry}
        with self._impatient.asked("trimming the build cache") as client:
            told = client.prune_builds(filters=which, all=True)
        return int(told.get("SpaceReclaimed") or 0)


def _stored(entry: Mapping[str, Any]) -> Stored:
    return Stored(
        id=str(entry["Id"]),
        names=tuple(name for name in entry.get("RepoTags") or () if name != "<none>:<none>"),
        digests=tuple(name for name in entry.get("RepoDigests") or () if not name.startswith("<none>")),
        labels=dict(entry.get("Labels") or {}),
        size_bytes=int(entry.get("Size") or 0),
        created_at=float(entry.get("Created") or 0),
    )


def _cached(entry: Mapping[str, Any]) -> CacheEntry:
    return CacheEntry(
        id=str(entry["ID"]),
        description=str(entry.get("Description") or ""),
        size_bytes=int(entry.get("Size") or 0),
        created_at=_moment(str(entry.get("CreatedAt") or "")),
        used_at=_moment(str(entry.get("LastUsedAt") or entry.get("CreatedAt") or "")),
        in_use=bool(entry.get("InUse")),
    )


def _moment(text: str) -> float:
    stamp, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{stamp}+00:00").timestamp() + float(f"0.{fraction or 0}") if stamp else 0.0


def _messages(
    client: Any, repository: Repository, tag: str, login: Login | None, cancelled: threading.Event
) -> Iterator[Mapping[str, Any]]:
    """Yield what the daemon tells of a push; its end is no promise of success."""
    from docker.types import CancellableStream
    from docker.utils.json_stream import json_stream

    auth = login.for_engine(repository.host) if login else {}
    headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}
    url = client._url("/images/{0}/push", str(repository))
    response = client._post(url, params={"tag": tag}, headers=headers, stream=True)
    client._raise_for_status(response)
    stream = CancellableStream(json_stream(client._stream_helper(response)), response)
    ended = threading.Event()
    watch = threading.Thread(target=_cut, args=(stream, cancelled, ended), name="push-watch", daemon=True)
    watch.start()
    try:
        yield from stream
    finally:
        ended.set()
        watch.join()
        response.close()


def _cut(stream: Any, cancelled: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(0.1):
        if cancelled.is_set():
            stream.close()
            return


def _refused(repository: Repository, said: str) -> Unavailable:
    low = said.lower()
    hint = "Is it running, and is its name right?"
    if any(word in low for word in ("unauthorized", "denied", "authentication required", "no basic auth")):
        hint = f"Log in with `docker login {repository.host}`, with an account that may push to {repository.name}."
    elif any(word in low for word in ("x509", "certificate", "http response to https", "tls")):
        hint = f"The engine must trust it: put the authority into /etc/docker/certs.d/{repository.host}/ca.crt."
    elif "no space left" in low:
        hint = "The registry's disk is full."
    return Unavailable(f"the push to {repository} failed: {said}", hint=hint, cause="registry")
