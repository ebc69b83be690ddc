"""What `pipe run` begins before it is needed: the Docker client's import, the files, and the first sandbox.

While the definition is planned and the record is opened, git takes the snapshot of the working tree, and the engine
makes the network that the first stage will join. Nothing is made before the definition was read without an error,
and what was made is ended when the run does not come about. Nothing depends on this: without it the same things are
done later.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pipeline import identity
from runners import scopes
from runners.hands import source_of
from runners.head_start import HeadStart

if TYPE_CHECKING:
    from pipeline.definition import Definition
    from pipeline.model import Event
    from pipeline.settings import Settings
    from runners.engines.docker import DockerEngine
    from runners.sandboxes import Sandboxes


class Early:
    """Begins with the import when it is made; use it as a context manager around the run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.installation = ""
        self.engine: DockerEngine | None = None
        self.sandboxes: Sandboxes | None = None
        self.files: HeadStart | None = None
        threading.Thread(target=_import, name="early-import", daemon=True).start()

    def __enter__(self) -> Early:
        return self

    def __exit__(self, *_: object) -> None:
        """End what nobody took over."""
        if self.files:
            self.files.end()
        if self.sandboxes:
            self.sandboxes.close()
        if self.engine:
            self.engine.close()

    def expect(self, definition: Definition, event: Event) -> None:
        """Take the files, and make a sandbox, in the background, if a stage of the definition will want them."""
        if any(stage.kind in ("run", "build") for stage in definition.stages.values()):
            place = source_of(event.repository)
            self.files = HeadStart(self._settings, event, place.top, place.workspaces, definition.name)
        if not any(stage.kind == "run" and stage.network == "default" for stage in definition.stages.values()):
            return
        if not (installation := identity.installation(self._settings)):
            return
        from runners import journal
        from runners.engines.docker import DockerEngine

        journal.keep(self._settings)
        self.installation = installation
        self.engine = DockerEngine(self._settings, installation)
        self.engine.check()
        self.sandboxes = sandboxes(self._settings, self.engine, installation)
        self.sandboxes.ahead()


def sandboxes(settings: Settings, engine: DockerEngine, installation: str) -> Sandboxes:
    """Return this process's sandboxes."""
    from runners.sandboxes import Sandboxes

    return Sandboxes(
        engine,
        installation=installation,
        image=settings.base_image,
        owner=scopes.scope(settings),
        alive=lambda owner: scopes.alive(owner, settings.hostname),
    )


def _import() -> None:
    import docker.api.client
    import docker.errors  # noqa: F401
