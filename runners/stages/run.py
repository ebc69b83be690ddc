"""A stage of commands: one container, one shell, its output into the log, its files into the store.

Order: image -> user -> workspace -> artifacts -> caches -> services -> create -> attach -> start -> commands in through
standard input -> log to its end -> exit code -> reports, artifacts, outputs, caches. The container's name was recorded
before any of it. Nothing is removed before the outcome is recorded (`Work.cleanup`): until then it is the proof, and
after a crash what ran is looked up and never run again. What comes next is decided by `pipeline.runs`.
"""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import LeaseLost, PipeError, StageFailed, Unavailable
from pipeline.faults import point
from pipeline.model import Cause, Outcome, Status
from runners import repository, workspace
from runners.engines import Container, Exit
from runners.sandboxes import LABEL, Sandboxes
from runners.stages import cell, handover, shell, user
from runners.stages.caches import Caches
from runners.stages.logpump import Pump
from runners.stages.services import Services
from runners.stages.user import User
from runners.workspace import Workspace

if TYPE_CHECKING:
    from runners.stages import Work

_GRACE_SECONDS = 10
_SOON_SECONDS = 3.0  # after its output's end a container has ended, or the connection was lost
_RECONNECTS = 20  # one second apart: a daemon that is restarted is back by then
_KILLED_BY_DAEMON = (137, 143, 255)


def execute(work: Work) -> Outcome:
    """Run the stage's commands once, or go on with what a lost worker began. Raises LeaseLost and PipeError."""
    passage = _Passage(work)
    try:
        return passage.go()
    except PipeError as error:
        passage.give_up(error)
        raise
    finally:
        passage.over.set()


class _Passage:
    """One attempt on its way through the stage."""

    shell: tuple[str, ...]
    user: User
    place: Workspace  # on this machine
    output: Path  # the file behind $PIPE_OUTPUT, on this machine

    def __init__(self, work: Work) -> None:
        self.work = work
        self.engine = work.engine
        self.over = threading.Event()
        self.commands = [command for command in work.spec.run or [] if command.strip()]
        self.mark = shell.nonce(work.db.installation, work.key)
        self.services = Services(work) if work.spec.services else None
        self.caches: Caches | None = None
        self.lost_daemon = False
        self.failed = False  # the author's news: the workspace is kept

    def go(self) -> Outcome:
        """Do all of it, or the rest of it."""
        work = self.work
        there = self._left_over() if work.resumed else None
        self._put_off_removals()
        self._prepare(fresh=there is None)
        ended = self._go_on(there) if there else None
        if ended is None:  # nothing there, or a container that died before its shell had read the commands
            ended = self._run_anew()
        point("run.exited")
        work.lease.check()
        self._leave_sandbox()
        return self._outcome(*ended)

    # --- before ---------------------------------------------------------------------------------------------------

    def _left_over(self) -> Container | None:
        """Return the container of this attempt, if it has done anything yet; one that was only created is removed."""
        found = self.engine.find({**self.work.labels, cell.ROLE: "stage"})
        for box in found:
            if box.state != "created":
                return box
            self.engine.remove(box.id)
        return None

    def _prepare(self, *, fresh: bool) -> None:
        """Bring here what the container mounts. `fresh`: nothing has run in it."""
        work, image = self.work, self.work.spec.image or ""
        if work.spec.network == "none" and work.spec.services:
            raise StageFailed(
                "`network: none` and `services` exclude each other", hint="a stage reaches its services by the network"
            )
        self.shell = shell.argv(work.spec.shell)
        if (own := self.engine.image_user(image)) is None:
            work.log.say(f"pulling the image {image}")
            self.engine.pull(image)
            own = self.engine.image_user(image)
        wish = work.spec.user or own or ""
        self.user = user.find(self.engine, image, wish, name=f"{work.key}-user", labels=work.labels)
        self.place = workspace.prepare(work, owner=(self.user.uid, self.user.gid))
        self.output = self.place.path.parent / "output"
        work.cleanup.later(self._remove_workspace)
        if fresh:
            handover.unpack(work, self.place.folder, self.user)
            self.output.write_bytes(b"")
            self.output.chmod(0o666)
        if work.spec.cache:
            root = str(PurePosixPath(cell.ROOT, self.place.prefix))
            default = repository.default_branch(work.source)
            self.caches = Caches(work, self.place.folder, root, self.user, default_branch=default)
            self.caches.take()

    def _remove_workspace(self) -> None:
        """Remove it, unless the commands failed: then a person may want to look around in it."""
        if not self.failed:
            workspace.remove(self.place, self.engine, image=self.work.settings.base_image, labels=self.work.labels)

    def _network(self) -> tuple[str, str]:
        """Return the network of the stage's container, and the sandbox whose network that is."""
        if self.services:
            self.services.up()
            return f"container:{self.services.anchor}", ""
        if self.work.spec.network == "none":
            return "none", ""
        self._sandbox = self._sandboxes.take()
        return f"container:{self._sandbox}", self._sandbox

    def _leave_sandbox(self) -> None:
        """Let others use the network: nothing of this attempt runs in it any more."""
        if sandbox := self._sandbox:
            self._sandbox = ""
            self._sandboxes.give_back(sandbox)

    @property
    def _sandboxes(self) -> Sandboxes:
        if self.work.sandboxes is not None:
            return self.work.sandboxes
        if self._own is None:
            self._own = Sandboxes(
                self.engine,
                installation=self.work.db.installation,
                image=self.work.settings.base_image,
                owner=self.work.key,
                alive=lambda owner: True,
            )
            self.work.cleanup.later(self._own.close)
        return self._own

    _own: Sandboxes | None = None
    _sandbox = ""

    # --- the container --------------------------------------------------------------------------------------------

    def _run_anew(self) -> tuple[Exit, Pump]:
        work, engine = self.work, self.engine
        folder = cell.workdir(self.place, work.spec.workdir)
        network, sandbox = self._network()
        mounts = cell.files(work, self.place, self.output) if engine.shares_files else ()
        if self.caches and engine.shares_files:
            mounts += tuple(mount for taken in self.caches.taken for mount in taken.mounts)
        env = cell.environment(work, self.place)
        if work.cancelled.is_set():
            raise Unavailable("stopped before its commands began", cause=Cause.CANCELLED)
        point("run.creating")
        spec = cell.spec(work, env=env, mounts=mounts, folder=folder, network=network, sandbox=sandbox)
        engine.create(spec)
        point("run.created")
        if not engine.shares_files:
            cell.send(work, self.place, self.user, self.output)
            if self.caches:
                self.caches.send(work.key)
        attached = engine.attach(work.key)
        pump = Pump(work.log, self.commands, self.mark)
        try:
            engine.start(work.key)
            self._watch()
            point("run.started")
            secrets = {name: work.secrets[name] for name in work.spec.secrets}
            attached.write(shell.program(self.commands, secrets=secrets, mark=self.mark))
            attached.end_input()
            for stream, data in attached:
                pump.take(stream, data)
                point("run.logging")
            point("run.ended")
        finally:
            attached.close()
        return self._ended(pump)

    def _go_on(self, box: Container) -> tuple[Exit, Pump] | None:
        """Read the log from its first line and wait for the end; None when no command had begun by then."""
        if sandbox := box.labels.get(LABEL):
            self._sandboxes.adopt(sandbox)
            self._sandbox = sandbox
        self._watch()
        pump = self._replay(box.id)
        ended, pump = self._ended(pump)
        if pump.began == 0 and self.commands and ended.code not in (126, 127):
            self.engine.remove(box.id)
            return None
        return ended, pump

    def _replay(self, container: str) -> Pump:
        """Take all output again from its first byte; what the log holds already is left out."""
        from pipeline import logs

        self.work.log.flush()
        told = (
            chunk.text() for chunk in logs.chunks(self.work.settings, self.work.attempt.id) if chunk.stream == "pipe"
        )
        said = sum(line.startswith(b"$ ") for text in told for line in text.split(b"\n"))
        self.work.log.replay()
        pump = Pump(self.work.log, self.commands, self.mark, said=said)
        for stream, data in self.engine.logs(container):
            pump.take(stream, data)
            point("run.logging")
        return pump

    def _ended(self, pump: Pump) -> tuple[Exit, Pump]:
        """Return how the container ended. That its output came to an end may only mean that the daemon went away."""
        for _ in range(_RECONNECTS):
            try:
                if self.lost_daemon:
                    pump = self._replay(self.work.key)
                if (ended := self.engine.wait(self.work.key, timeout_seconds=_SOON_SECONDS)) is not None:
                    pump.end()
                    self.work.log.flush()
                    return ended, pump
            except Unavailable as error:
                if error.cause != Cause.RUNNER_LOST or self.over.wait(1.0):
                    raise
            self.lost_daemon = True
        raise Unavailable(
            "the Docker engine did not come back", hint="look at the daemon's log", cause=Cause.RUNNER_LOST
        )

    def _watch(self) -> None:
        threading.Thread(target=self._stop_when_asked, name="stop", daemon=True).start()

    def _stop_when_asked(self) -> None:
        """End the container when the run is cancelled or its time is over; a daemon that is away for a moment waits."""
        while not self.over.is_set():
            if self.work.cancelled.wait(0.5):
                try:
                    self.work.lease.check()
                    self.engine.stop(self.work.key, grace_seconds=_GRACE_SECONDS)
                    return
                except LeaseLost:
                    return  # it is another worker's container now
                except PipeError:
                    self.over.wait(1.0)

    # --- after ----------------------------------------------------------------------------------------------------

    def _outcome(self, ended: Exit, pump: Pump) -> Outcome:
        work = self.work
        killed = work.cancelled.is_set() and ended.code != 0
        succeeded = ended.code == 0
        folder = self._files_back()
        reading = None if killed else handover.read_reports(work, folder)
        point("run.reported")
        verdict = reading.verdict() if reading and succeeded else None
        succeeded = succeeded and verdict is None
        if not succeeded:
            self.tell_services()
        if not killed:
            handover.keep_artifacts(work, folder, succeeded=succeeded)
        point("run.collected")
        if self.caches:
            if not self.engine.shares_files:
                self.caches.fetch(work.key)
            self.caches.put_back(killed=killed or ended.oom)
        commands = pump.timings(ended.code)
        result = {"commands": [dict(command) for command in commands]}
        if succeeded:
            found = handover.outputs(work, self.output) if work.spec.outputs or self.output.stat().st_size else {}
            return Outcome(status=Status.SUCCEEDED, exit_code=0, outputs=found, commands=commands, result=result)
        if self.lost_daemon and ended.code in _KILLED_BY_DAEMON:
            raise Unavailable(
                "the Docker engine was stopped while the commands ran, and ended them",
                hint="look at the daemon's log; `pipe retry` runs the stage again",
                cause=Cause.RUNNER_LOST,
            )
        if ended.code in _KILLED_BY_DAEMON and not killed:
            self._check_there()
        self.failed = not killed
        cause, reason = self._why(ended, pump, verdict)
        return Outcome(
            status=Status.FAILED, cause=cause, reason=reason, exit_code=ended.code, commands=commands, result=result
        )

    def _check_there(self) -> None:
        """Raise Unavailable when the commands were ended because somebody removes their container."""
        seen = self.engine.inspect(self.work.key)
        if seen is None or seen.state == "removing":
            raise Unavailable(
                f"somebody removed the container {self.work.key} while the commands ran",
                hint="containers with our labels are removed by us; `pipe retry` runs the stage again",
                cause=Cause.RUNNER_LOST,
            )

    def _why(self, ended: Exit, pump: Pump, verdict: str | None) -> tuple[str, str]:
        resources = self.work.spec.resources
        if verdict is not None:
            return Cause.REPORT, verdict
        if ended.oom:
            limit = (
                f"its limit of {resources.memory >> 20} MiB" if resources and resources.memory else "the machine has"
            )
            return Cause.OOM, f"the commands needed more memory than {limit}\n  raise `resources: {{memory: …}}`"
        if pump.began == 0 and ended.code in (126, 127):
            return Cause.FAILED, (
                f"the image `{self.work.spec.image}` has no `{self.shell[0]}` that can be started\n"
                "  name a shell that it has with `shell:`, or use another image"
            )
        command = self.commands[pump.began - 1].strip().split("\n")[0] if pump.began else self.shell[0]
        return Cause.FAILED, f"`{command}` ended with exit code {ended.code}"

    def _files_back(self) -> Path:
        """Return the folder, on this machine, of what the commands left where they started."""
        wanted = self.work.spec.artifacts or self.work.spec.reports or self.work.spec.outputs
        if not self.engine.shares_files and wanted:
            cell.take_back(self.work, self.place, self.output)
        return self.place.folder

    def give_up(self, error: PipeError) -> None:
        """Let go of what others may want, after an error on the way."""
        if isinstance(error, StageFailed):
            self.tell_services()
        if self.caches:
            self.caches.put_back(killed=True)

    def tell_services(self) -> None:
        """Show what the services said last, for whoever asks why."""
        if self.services:
            self.services.tell()

    def _put_off_removals(self) -> None:
        """Note what is to be removed once the outcome is recorded; whatever of it does not exist is no error."""
        work, engine = self.work, self.engine
        work.cleanup.later(lambda: engine.remove(work.key))
        work.cleanup.later(self._leave_sandbox)
        if self.services:
            work.cleanup.later(self.services.down)
