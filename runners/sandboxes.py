"""Network namespaces made ahead: tiny pause containers whose network a stage's container joins.

To join one costs a third of what a network of one's own costs, and the making of it happens while other things
are done. All sandboxes are on one bridge whose members can not reach each other (`icc=false`); what is outside and
Docker's DNS they reach. A sandbox serves one attempt at a time and may be used again once that attempt's container is
gone. Stages with services need names of their own, and get a network of their own: `runners.stages.services`.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping

from pipeline.errors import PipeError
from runners.engines import ContainerSpec, Engine

log = logging.getLogger(__name__)

LABEL = "pipewright.sandbox"  # on a sandbox, and on the stage's container that is in it
LOOK_AFTER_SECONDS = 5.0  # one that was idle for longer is looked at before it is used
_ROLE = "pipewright.role"
_OWNER = "pipewright.owner"


def pause(name: str, *, image: str, network: str, labels: Mapping[str, str]) -> ContainerSpec:
    """Return a container that does nothing but keep its network, and goes away by itself once it is ended."""
    return ContainerSpec(
        name=name,
        image=image,
        entrypoint=("sleep",),
        command=("infinity",),
        labels=labels,
        network=network,
        capabilities=(),
        memory_bytes=32 << 20,
        pids=64,
        ephemeral=True,
        log_max_bytes=1 << 16,
    )


class Sandboxes:
    """The sandboxes of one worker. `owner` names the worker, and `alive` tells whether another one still lives."""

    def __init__(
        self, engine: Engine, *, installation: str, image: str, owner: str, alive: Callable[[str], bool]
    ) -> None:
        self._engine = engine
        self._prefix = f"pipe-{installation[:8]}-sandbox"
        self._image = image
        self._owner = owner
        self._alive = alive
        self._changed = threading.Condition()
        self._free: list[tuple[str, float]] = []  # with the time since when
        self._used: set[str] = set()
        self._making = 0
        self._network_there = True  # believed until the engine says no: to ask costs more than to be wrong once

    def ahead(self) -> None:
        """Make one in the background if none is there, and remove those that dead workers left behind."""
        with self._changed:
            if self._making or self._free:
                return
            self._making += 1
        threading.Thread(target=self._make_ahead, name="sandbox-ahead", daemon=True).start()

    def take(self) -> str:
        """Return the name of a sandbox that nobody else uses; made now if none is free. Raises Unavailable."""
        while (found := self._take_free()) is not None:
            name, since = found
            if time.monotonic() - since < LOOK_AFTER_SECONDS or self._lives(name):
                return name
            with self._changed:
                self._used.discard(name)
        name = self._make()
        with self._changed:
            self._used.add(name)
        return name

    def _take_free(self) -> tuple[str, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._free) or not self._making)
            if not self._free:
                return None
            found = self._free.pop()
            self._used.add(found[0])
            return found

    def _lives(self, name: str) -> bool:
        """Tell whether it is still there: a daemon that was restarted has ended it."""
        seen = self._engine.inspect(name)
        return seen is not None and seen.state == "running"

    def adopt(self, name: str) -> None:
        """Take over the sandbox in which an attempt of a dead worker is: it is ended when it is given back."""
        with self._changed:
            self._used.add(name)

    def give_back(self, name: str) -> None:
        """Let others use it: the container that was in it is gone."""
        if name.startswith(self._mine):
            with self._changed:
                if name in self._used:  # given back once only: two would get one that is there twice
                    self._used.discard(name)
                    self._free.append((name, time.monotonic()))
                    self._changed.notify_all()
        else:
            self._engine.kill(name, "TERM")
            self._used.discard(name)

    def close(self) -> None:
        """End all of them; the engine removes what has ended, nobody needs to wait for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._making)
            names = [*(name for name, _ in self._free), *self._used]
            self._free, self._used = [], set()
        for name in names:
            try:
                self._engine.kill(name, "TERM")
            except PipeError as error:
                log.warning("sandbox.left_behind", extra={"sandbox": name, "error": str(error)})

    def sweep(self) -> None:
        """End the sandboxes of dead workers, except those in which an attempt still runs."""
        for box in self._engine.find({_ROLE: "sandbox"}):
            if box.labels.get(_OWNER) == self._owner or self._alive(box.labels.get(_OWNER, "")):
                continue
            inside = self._engine.find({LABEL: box.name, _ROLE: "stage"})
            if not any(other.state in ("created", "running", "paused") for other in inside):
                self._engine.kill(box.name, "TERM")

    @property
    def _mine(self) -> str:
        return f"{self._prefix}-{self._owner_id}-"

    @property
    def _owner_id(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self._owner)[-24:].strip("-")

    def _make_ahead(self) -> None:
        made = ""
        try:
            made = self._make()
        except PipeError as error:  # whoever takes one then meets it where it can be told
            log.warning("sandbox.not_made", extra={"error": str(error)})
        finally:
            with self._changed:
                self._making -= 1
                if made:
                    self._free.append((made, time.monotonic()))
                self._changed.notify_all()
        try:
            self.sweep()
        except PipeError as error:
            log.warning("sandbox.not_swept", extra={"error": str(error)})

    def _make(self) -> str:
        known = self._network_there
        try:
            return self._make_in_network()
        except PipeError:
            if not known:
                raise
            self._network_there = False  # the first time, or somebody removed it
            return self._make_in_network()

    def _make_in_network(self) -> str:
        name = f"{self._mine}{secrets.token_hex(3)}"
        labels = {_ROLE: "sandbox", LABEL: name, _OWNER: self._owner}
        if not self._network_there:
            self._engine.ensure_network(self._prefix, labels={_ROLE: "sandboxes"}, isolated=True)
            self._network_there = True
        self._engine.create(pause(name, image=self._image, network=self._prefix, labels=labels))
        try:
            self._engine.start(name)
        except PipeError:
            self._engine.remove(name)
            raise
        return name
