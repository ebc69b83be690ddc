"""The Engine on Docker, over its SDK's low-level client. Builds are not done here, and no policy is made here.

What keeps output whole: attached before the start, the log driver `local` without rotation (it keeps every byte,
where json-file replaces those that are not UTF-8, and is faster), and never a log replayed through `attach`. A
stream that ends may have ended because the daemon went away: only `wait` and `inspect` say how a container ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.errors import NeedsAttention, Unavailable
from runners.engines import Container, ContainerSpec, Exit, Stream, complaints, frames, is_same_host, wishes
from runners.engines.daemon import Daemon, answered, explanation
from runners.engines.docker_images import DockerImages

if TYPE_CHECKING:
    from pipeline.settings import Settings

_OWNER = "pipewright.installation"
_REMOVAL_SECONDS = 60


class DockerEngine(DockerImages):
    """Runs containers on a Docker daemon; see `runners.engines.Engine`."""

    def __init__(self, settings: Settings, installation: str) -> None:
        self._daemon = Daemon(settings.engine_url)
        self._installation = installation
        self.shares_files = is_same_host(self._daemon.url)

    def close(self) -> None:
        """Give all idle connections back."""
        self._daemon.close()

    # --- containers ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise Unavailable, saying what to do, unless somebody listens at the daemon's address."""
        self._daemon.check()

    def create(self, spec: ContainerSpec) -> str:
        """Create the container, or adopt the one of that name and labels; return its id. Pulls a missing image."""
        config = wishes.container_config(spec)
        config["Labels"].setdefault(_OWNER, self._installation)
        if made := self._create(spec, config):
            return made
        self.pull(spec.image)
        if made := self._create(spec, config):
            return made
        raise Unavailable(
            f"the image `{spec.image}` vanished right after it was pulled", hint="try again", cause="image_pull"
        )

    def _create(self, spec: ContainerSpec, config: dict[str, Any]) -> str | None:
        from docker.errors import APIError, ImageNotFound

        with self._daemon.asked(f"creating the container {spec.name}", subject=spec.image) as client:
            try:
                made = client.create_container_from_config(config, spec.name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
            except ImageNotFound:
                return None
            except APIError as error:
                if error.status_code != 409 or "is already in use" not in explanation(error):
                    raise
        return self._adopt(spec, config["Labels"])

    def _adopt(self, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        there = self.inspect(spec.name)
        if there is None:
            raise Unavailable(
                f"the container {spec.name} was removed by somebody else", hint="try again", cause="runner_lost"
            )
        if any(there.labels.get(name) != value for name, value in labels.items()):
            raise NeedsAttention(
                f"a container named {spec.name} exists and is not the one that was to be made",
                hint=f"look at it (`docker inspect {spec.name}`) and remove it if nobody needs it",
            )
        return there.id

    def attach(self, container: str) -> frames.SocketAttached:
        """Attach to a created container before it is started: nothing is lost."""
        with self._daemon.asked(f"attaching to the container {container}", started=True) as client:
            connection = client.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        return frames.SocketAttached(getattr(connection, "_sock", connection), lambda: _close(connection))

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is. Raises StageFailed for what the author's image does not have."""
        from docker.errors import APIError

        doing = f"starting the container {container}"
        with self._daemon.asked(doing) as client:
            try:
                client.start(container)
            except APIError as error:
                image = client.inspect_container(container)["Config"]["Image"]
                raise complaints.refused(explanation(error), doing=doing, subject=image) from error

    def logs(self, container: str) -> Iterator[tuple[Stream, bytes]]:
        """Yield all output from the first byte, and follow it to the end."""
        wish = {"stdout": "1", "stderr": "1", "follow": "1"}
        with (
            self._daemon.asked(f"reading the log of {container}", started=True) as client,
            answered(client, "GET", f"/containers/{container}/logs", params=wish) as answer,
        ):
            chunks = answer.raw.stream(1 << 18, decode_content=False)
            yield from frames.demultiplex(frames.from_chunks(chunks))

    def tail(self, container: str, *, lines: int) -> bytes:
        """Return the last lines of its output, running or not, out and err as they came; empty when it is gone."""
        from docker.errors import NotFound

        wish = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        with (
            self._daemon.asked(f"reading the log of {container}") as client,
            contextlib.suppress(NotFound),
            answered(client, "GET", f"/containers/{container}/logs", params=wish) as answer,
        ):
            chunks = answer.raw.stream(1 << 16, decode_content=False)
            return b"".join(data for _, data in frames.demultiplex(frames.from_chunks(chunks)))
        return b""

    def wait(self, container: str, *, timeout_seconds: float | None = None) -> Exit | None:
        """Return how it ended, or None when it still runs after `timeout_seconds`."""
        from requests.exceptions import ConnectionError as Lost
        from requests.exceptions import Timeout

        with self._daemon.asked(f"waiting for the container {container}", started=True) as client:
            try:
                answer = client.wait(container, timeout=timeout_seconds)  # type: ignore[arg-type]
            except (Timeout, Lost) as error:
                if timeout_seconds is None or "timed out" not in str(error).lower():
                    raise
                return None
        if answer["StatusCode"] == 0:
            return Exit(code=0)
        seen = self.inspect(container)  # a memory limit is told only there
        return seen.exit if seen and seen.exit else Exit(code=answer["StatusCode"], error=_waited_error(answer))

    def execute(
        self, container: str, command: tuple[str, ...], *, env: Mapping[str, str] | None = None, user: str = ""
    ) -> tuple[int, bytes]:
        """Run a command in a running container; return exit code and output."""
        with self._daemon.asked(f"running {command[0]} in {container}", subject=container) as client:
            made = client.exec_create(container, list(command), environment=dict(env or {}), user=user)["Id"]
            wish = {"Detach": False, "Tty": False}
            # Without the usual upgrade: the SDK's own call reads past what http.client has buffered, and loses it.
            with answered(client, "POST", f"/exec/{made}/start", json=wish) as answer:
                chunks = iter(lambda: answer.raw.read(1 << 16), b"")
                output = b"".join(data for _, data in frames.demultiplex(frames.from_chunks(chunks)))
            code = client.exec_inspect(made)["ExitCode"]
        return (-1 if code is None else code), output

    def stop(self, container: str, *, grace_seconds: int) -> None:
        """Ask it to end (SIGTERM), and after the grace make it end; idempotent."""
        from docker.errors import NotFound

        with self._daemon.asked(f"stopping the container {container}") as client, contextlib.suppress(NotFound):
            client.stop(container, timeout=grace_seconds)

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal; a container that has ended or is gone is no error."""
        from docker.errors import APIError

        with self._daemon.asked(f"ending the container {container}") as client:
            try:
                client.kill(container, signal)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone; not running
                    raise

    def remove(self, container: str) -> None:
        """Remove it, running or not, with its log; idempotent."""
        from docker.errors import APIError, NotFound

        with self._daemon.asked(f"removing the container {container}") as client, contextlib.suppress(NotFound):
            try:
                client.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code != 409:  # somebody else is at it, for instance the daemon itself
                    raise
                client.wait(container, timeout=_REMOVAL_SECONDS, condition="removed")

    def inspect(self, container: str) -> Container | None:
        """Return what is known of it by id or name, or None."""
        from docker.errors import NotFound

        with self._daemon.asked(f"looking at the container {container}") as client:
            try:
                return wishes.container_seen(client.inspect_container(container))
            except NotFound:
                return None

    def find(self, labels: Mapping[str, str]) -> list[Container]:
        """Return all containers, in any state, that carry these labels."""
        with self._daemon.asked("looking for our containers") as client:
            found = client.containers(all=True, filters={"label": self._wanted(labels)})
        return [seen for row in found if (seen := self.inspect(row["Id"]))]

    # --- files --------------------------------------------------------------------------------------------------

    def copy_in(self, container: str, path: str, archive: BinaryIO | Iterable[bytes]) -> None:
        """Unpack a tar archive at `path` in a container, created or running."""
        with self._daemon.asked(f"copying files to {path} in {container}", subject=container) as client:
            client.put_archive(container, path, archive)

    def copy_out(self, container: str, path: str) -> Iterator[bytes] | None:
        """Yield a tar archive of `path`, or return None when it is not there."""
        from docker.errors import NotFound

        with self._daemon.asked(f"looking for {path} in {container}", subject=container) as client:
            try:
                with answered(client, "HEAD", f"/containers/{container}/archive", params={"path": path}):
                    pass
            except NotFound:
                return None
        return self._archive(container, path)

    def _archive(self, container: str, path: str) -> Iterator[bytes]:
        with (
            self._daemon.asked(f"copying {path} out of {container}", subject=container) as client,
            answered(client, "GET", f"/containers/{container}/archive", params={"path": path}) as answer,
        ):
            yield from answer.raw.stream(1 << 18, decode_content=False)

    # --- networks and volumes ------------------------------------------------------------------------------

    def ensure_network(self, name: str, *, labels: Mapping[str, str], subnet: str = "", isolated: bool = False) -> None:
        """Make the network if it is missing; `isolated` forbids its members to reach each other."""
        from docker.errors import APIError

        wish = wishes.network_config(name, labels=self._ours(labels), subnet=subnet, isolated=isolated)
        with self._daemon.asked(f"making the network {name}", subject=name) as client:
            try:
                client.create_network(**wish, check_duplicate=True)
            except APIError as error:
                if error.status_code != 409:
                    raise
                self._check_ours(client.inspect_network(name).get("Labels"), f"network {name}")

    def networks(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our networks that carry these labels, by name."""
        with self._daemon.asked("looking for our networks") as client:
            found = client.networks(filters={"label": self._wanted(labels)})
        return {row["Name"]: row.get("Labels") or {} for row in found}

    def remove_network(self, name: str) -> None:
        """Remove it; idempotent."""
        from docker.errors import NotFound

        with self._daemon.asked(f"removing the network {name}") as client, contextlib.suppress(NotFound):
            client.remove_network(name)

    def ensure_volume(self, name: str, *, labels: Mapping[str, str], in_memory: bool = False) -> None:
        """Make the volume if it is missing; one in memory keeps its files only while a running container mounts it."""
        options = {"type": "tmpfs", "device": "tmpfs", "o": "size=16m,mode=0755"} if in_memory else {}
        with self._daemon.asked(f"making the volume {name}", subject=name) as client:
            made = client.create_volume(name, driver="local", driver_opts=options, labels=dict(self._ours(labels)))
            self._check_ours(made.get("Labels"), f"volume {name}")

    def volumes(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our volumes that carry these labels, by name."""
        with self._daemon.asked("looking for our volumes") as client:
            found = client.volumes(filters={"label": self._wanted(labels)})["Volumes"]
        return {row["Name"]: row.get("Labels") or {} for row in found or ()}

    def remove_volume(self, name: str) -> None:
        """Remove it; idempotent."""
        from docker.errors import NotFound

        with self._daemon.asked(f"removing the volume {name}") as client, contextlib.suppress(NotFound):
            client.remove_volume(name)

    def _ours(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        return {_OWNER: self._installation, **labels}

    def _wanted(self, labels: Mapping[str, str]) -> list[str]:
        return [f"{name}={value}" for name, value in self._ours(labels).items()]

    def _check_ours(self, labels: Mapping[str, str] | None, what: str) -> None:
        if (labels or {}).get(_OWNER) != self._installation:
            raise NeedsAttention(
                f"the {what} exists and belongs to somebody else", hint="remove or rename it; we never touch it"
            )


def _close(connection: Any) -> None:
    if response := getattr(connection, "_response", None):
        response.close()
    connection.close()


def _waited_error(answer: Mapping[str, Any]) -> str:
    return str((answer.get("Error") or {}).get("Message") or "")
