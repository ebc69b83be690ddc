"""The part of the Docker engine that is about images. Building them is not: that is BuildKit's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import Unavailable
from runners.engines.daemon import Daemon

if TYPE_CHECKING:
    from docker.api.client import APIClient

_REMOVAL_SECONDS = 60  # one was seen to hang for ten minutes


class DockerImages:
    """What an engine does with images; see `runners.engines.Engine`."""

    _daemon: Daemon

    def image_id(self, reference: str) -> str | None:
        """Return the id of a local image, or None."""
        from docker.errors import NotFound

        with self._daemon.asked(f"looking for the image {reference}", subject=reference) as client:
            try:
                return str(client.inspect_image(reference)["Id"])  # type: ignore[no-untyped-call]
            except NotFound:
                return None

    def image_user(self, reference: str) -> str | None:
        """Return as whom an image's containers run (a name, a number, "user:group", "" for root), None if not here."""
        from docker.errors import NotFound

        with self._daemon.asked(f"looking at the image {reference}", subject=reference) as client:
            try:
                return str((client.inspect_image(reference).get("Config") or {}).get("User") or "")  # type: ignore[no-untyped-call]
            except NotFound:
                return None

    def pull(self, reference: str, *, auth: Mapping[str, str] | None = None) -> str:
        """Pull an image and return its id. Raises Unavailable(cause="image_pull")."""
        doing = f"pulling the image {reference}"
        try:
            with self._daemon.asked(doing, subject=reference) as client:
                self._pull(client, reference, dict(auth) if auth else None)
        except Unavailable as error:
            raise Unavailable(error.message, hint=error.hint, cause="image_pull") from error
        if found := self.image_id(reference):
            return found
        raise Unavailable(f"{doing}: it is not there afterwards", hint="try again", cause="image_pull")

    def _pull(self, client: APIClient, reference: str, auth: dict[str, str] | None) -> None:
        from docker.errors import APIError

        if reference.startswith("sha256:"):
            raise APIError("no such image", explanation="no such image: an image id can not be pulled")
        for line in client.pull(reference, stream=True, decode=True, auth_config=auth):
            if "error" in line:  # an error in the stream is one, although the answer's status was 200
                raise APIError(line["error"], explanation=line["error"])

    def remove_image(self, reference: str) -> None:
        """Remove an image if nothing uses it; idempotent, with a deadline of its own."""
        from docker.errors import APIError

        daemon = Daemon(self._daemon.url, timeout_seconds=_REMOVAL_SECONDS)
        try:
            with daemon.asked(f"removing the image {reference}", subject=reference) as client:
                try:
                    client.remove_image(reference)
                except APIError as error:
                    if error.status_code not in (404, 409):  # gone; in use
                        raise
        finally:
            daemon.close()
