"""The Engine in memory: containers are Python functions, for tests that need no Docker. Nothing here runs a program.

A `World` is what would outlive the worker: a new `DummyEngine` over the same world is a worker after its crash. What
a container does is a function of its `Process`, chosen by image; time passes only through events that a test sets.
The same contract tests pass here and on Docker (`tests/runners/test_engine_contract.py`).
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import BinaryIO

from pipeline.errors import NeedsAttention, StageFailed, Unavailable
from runners.engines import Container, ContainerSpec, Exit, Stream
from runners.engines.dummy_world import Box, Ended, Process, Script, World, follow

_OWNER = "pipewright.installation"
_SIGNALS = {"KILL": 137, "TERM": 143, "INT": 130}


class _Attached:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._at = len(process.output)
        self._open = True
        self.box: Box | None = None

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        return follow(self._process, self._at, lambda: not self._open or self._over())

    def _over(self) -> bool:
        return self.box is not None and self.box.state in ("exited", "removing")

    def write(self, data: bytes) -> None:
        with self._process.changed:
            self._process.input += data
            self._process.changed.notify_all()

    def end_input(self) -> None:
        with self._process.changed:
            self._process.input_ended = True
            self._process.changed.notify_all()

    def close(self) -> None:
        self._open = False
        self.end_input()


class DummyEngine:
    """Runs scripted containers; see `runners.engines.Engine`."""

    def __init__(self, world: World, installation: str = "dummy", *, shares_files: bool = False) -> None:
        self.world = world
        self._installation = installation
        self.shares_files = shares_files

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def check(self) -> None:
        """Do nothing: memory is always there."""

    def create(self, spec: ContainerSpec) -> str:
        """Create the container, or adopt the one of that name and labels; return its id. Pulls a missing image."""
        labels = {_OWNER: self._installation, **spec.labels}
        with self.world.changed:
            if there := self.world.boxes.get(spec.name):
                if any(there.labels.get(name) != value for name, value in labels.items()):
                    raise NeedsAttention(f"a container named {spec.name} exists", hint="look at it")
                return there.id
            if spec.image not in self.world.images:
                self.pull(spec.image)
            process = Process(spec, {}, self.world.changed)
            box = Box(f"{next(self.world.ids):064x}", spec, labels, process)
            self.world.boxes[spec.name] = box
            return box.id

    def attach(self, container: str) -> _Attached:
        """Attach to a created container before it is started: nothing is lost."""
        box = self._box(container)
        attached = _Attached(box.process)
        attached.box = box
        return attached

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is. Raises StageFailed for what the author's image does not have."""
        with self.world.changed:
            box = self._box(container)
            program = ((box.spec.entrypoint or ()) + box.spec.command or ("",))[0]
            absent = program in self.world.missing
            if absent and not box.spec.init:  # an init starts in any case, and is who complains
                raise StageFailed(f"the image `{box.spec.image}` has no `{program}`", hint="see `shell:`", code=127)
            if box.state != "created":
                return
            box.state = "running"
            self.world.starts.append(box.spec.name)
        script = _no_program if absent else self.world.images[box.spec.image]
        threading.Thread(target=self._live, args=(box, script), name=box.spec.name, daemon=True).start()

    def _live(self, box: Box, script: Script) -> None:
        try:
            code = script(box.process)
        except Ended as ended:
            code = ended.code
        with self.world.changed:
            box.exit = Exit(code=code, oom=box.process.oom)
            box.state = "exited"
            if box.spec.ephemeral:
                self.world.boxes.pop(box.spec.name, None)
            self.world.changed.notify_all()

    def logs(self, container: str) -> Iterator[tuple[Stream, bytes]]:
        """Yield all output from the first byte, and follow it to the end."""
        box = self._box(container)
        return follow(box.process, 0, lambda: box.state != "running")

    def tail(self, container: str, *, lines: int) -> bytes:
        """Return the last lines of its output, running or not, out and err as they came; empty when it is gone."""
        box = self.world.boxes.get(container)
        box = box or next((b for b in self.world.boxes.values() if b.spec.name == container), None)
        if box is None:
            return b""
        with self.world.changed:
            written = b"".join(data for _, data in box.process.output)
        return b"".join(written.splitlines(keepends=True)[-lines:])

    def wait(self, container: str, *, timeout_seconds: float | None = None) -> Exit | None:
        """Return how it ended, or None when it still runs after `timeout_seconds`."""
        box = self._box(container)
        with self.world.changed:
            self.world.changed.wait_for(lambda: box.exit is not None, timeout_seconds)
            return box.exit

    def execute(
        self, container: str, command: tuple[str, ...], *, env: Mapping[str, str] | None = None, user: str = ""
    ) -> tuple[int, bytes]:
        """Run a command in a running container; return exit code and output."""
        box = self._box(container)
        if box.state != "running":
            raise Unavailable(f"the container {container} is not running", hint="start it first")
        known = self.world.commands.get(command[0])
        return known(box.process, command) if known else (127, f"{command[0]}: not found".encode())

    def stop(self, container: str, *, grace_seconds: int) -> None:
        """Ask it to end (SIGTERM), and after the grace make it end; idempotent."""
        self.kill(container, "TERM")
        if (box := self._seek(container)) and box.state == "running":
            self.wait(container, timeout_seconds=grace_seconds)
            self.kill(container)

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal; a container that has ended or is gone is no error."""
        with self.world.changed:
            if (box := self._seek(container)) and box.state == "running":
                box.process.signal = _SIGNALS.get(signal, 128)
                self.world.changed.notify_all()

    def remove(self, container: str) -> None:
        """Remove it, running or not, with its log; idempotent."""
        self.kill(container)
        with self.world.changed:
            if not (box := self._seek(container)):
                return
            self.world.changed.wait_for(lambda: box.state != "running", 10)
            self.world.boxes.pop(box.spec.name, None)
            box.state = "removing"
            self.world.changed.notify_all()

    def inspect(self, container: str) -> Container | None:
        """Return what is known of it by id or name, or None."""
        box = self._seek(container)
        return _seen(box) if box else None

    def find(self, labels: Mapping[str, str]) -> list[Container]:
        """Return all containers, in any state, that carry these labels."""
        wanted = {_OWNER: self._installation, **labels}.items()
        with self.world.changed:
            return [_seen(box) for box in self.world.boxes.values() if wanted <= box.labels.items()]

    def copy_in(self, container: str, path: str, archive: BinaryIO | Iterable[bytes]) -> None:
        """Unpack a tar archive at `path` in a container, created or running."""
        box = self._box(container)
        data = b"".join(iter(lambda: archive.read(65536), b"") if hasattr(archive, "read") else archive)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                box.process.files[str(PurePosixPath(path) / member.name)] = content.read() if content else b""

    def copy_out(self, container: str, path: str) -> Iterator[bytes] | None:
        """Yield a tar archive of `path`, or return None when it is not there."""
        files = self._box(container).process.files
        parent = PurePosixPath(path).parent
        inside = {name: data for name, data in files.items() if PurePosixPath(name).is_relative_to(path)}
        if not inside:
            return None
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, data in sorted(inside.items()):
                info = tarfile.TarInfo(str(PurePosixPath(name).relative_to(parent)))
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return iter([packed.getvalue()])

    def ensure_network(self, name: str, *, labels: Mapping[str, str], subnet: str = "", isolated: bool = False) -> None:
        """Make the network if it is missing; `isolated` forbids its members to reach each other."""
        self._ensure(self.world.networks, name, labels)

    def networks(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our networks that carry these labels, by name."""
        return self._carrying(self.world.networks, labels)

    def remove_network(self, name: str) -> None:
        """Remove it; idempotent."""
        with self.world.changed:
            if any(box.spec.network == name and box.state == "running" for box in self.world.boxes.values()):
                raise Unavailable(f"the network {name} has active endpoints", hint="remove its containers first")
            self.world.networks.pop(name, None)

    def ensure_volume(self, name: str, *, labels: Mapping[str, str], in_memory: bool = False) -> None:
        """Make the volume if it is missing; one in memory keeps its files only while a running container mounts it."""
        self._ensure(self.world.volumes, name, labels)

    def volumes(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our volumes that carry these labels, by name."""
        return self._carrying(self.world.volumes, labels)

    def remove_volume(self, name: str) -> None:
        """Remove it; idempotent."""
        with self.world.changed:
            self.world.volumes.pop(name, None)

    def image_id(self, reference: str) -> str | None:
        """Return the id of a local image, or None."""
        return f"sha256:{hash(reference) & (1 << 256) - 1:064x}" if reference in self.world.images else None

    def image_user(self, reference: str) -> str | None:
        """Return as whom an image's containers run (a name, a number, "user:group", "" for root), None if not here."""
        return self.world.users.get(reference, "") if reference in self.world.images else None

    def pull(self, reference: str, *, auth: Mapping[str, str] | None = None) -> str:
        """Pull an image and return its id. Raises Unavailable(cause="image_pull")."""
        with self.world.changed:
            if reference not in self.world.pullable and reference not in self.world.images:
                raise Unavailable(f"there is no image `{reference}`", hint="check its name", cause="image_pull")
            self.world.images.setdefault(reference, self.world.pullable.get(reference, Process.forever))
        return self.image_id(reference) or ""

    def remove_image(self, reference: str) -> None:
        """Remove an image if nothing uses it; idempotent."""
        with self.world.changed:
            if not any(box.spec.image == reference for box in self.world.boxes.values()):
                self.world.images.pop(reference, None)

    def _ensure(self, there: dict[str, Mapping[str, str]], name: str, labels: Mapping[str, str]) -> None:
        with self.world.changed:
            made = there.setdefault(name, {_OWNER: self._installation, **labels})
        if made.get(_OWNER) != self._installation:
            raise NeedsAttention(f"{name} exists and belongs to somebody else", hint="remove or rename it")

    def _carrying(
        self, there: Mapping[str, Mapping[str, str]], labels: Mapping[str, str]
    ) -> Mapping[str, Mapping[str, str]]:
        wanted = {_OWNER: self._installation, **labels}.items()
        with self.world.changed:
            return {name: made for name, made in there.items() if wanted <= made.items()}

    def _seek(self, container: str) -> Box | None:
        with self.world.changed:
            if box := self.world.boxes.get(container):
                return box
            return next((box for box in self.world.boxes.values() if box.id == container), None)

    def _box(self, container: str) -> Box:
        if box := self._seek(container):
            return box
        raise Unavailable(f"no such container: {container}", hint="it was removed", cause="runner_lost")


def _no_program(process: Process) -> int:
    process.write(b"exec failed: No such file or directory\n", "err")
    return 127


def _seen(box: Box) -> Container:
    address = {box.spec.network: box.spec.address} if box.spec.address else {}
    return Container(
        id=box.id,
        name=box.spec.name,
        state=box.state,  # type: ignore[arg-type]
        labels=box.labels,
        image=box.spec.image,
        addresses=address,
        exit=box.exit,
    )
