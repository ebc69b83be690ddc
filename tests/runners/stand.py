"""What the tests of this room stand on: real repositories, and work as a worker would hand it over."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import settings as settings_module
from pipeline.db import Database
from pipeline.definition import Stage
from pipeline.model import Attempt, Event, Run, StageRun, Status
from pipeline.settings import Settings
from runners import process
from runners.stages import Work

_records: dict[Path, Database] = {}


def record(settings: Settings) -> Database:
    """Return the database of an installation, opened once; `close` closes it."""
    if settings.home not in _records:
        _records[settings.home] = Database.open(settings)
    return _records[settings.home]


def close(settings: Settings) -> None:
    if settings.home in _records:
        _records.pop(settings.home).close()


@dataclass
class Log:
    """Keeps what is said, as a log does."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.extend(text.splitlines())

    def feed(self, stream: str, data: bytes) -> None:
        self.lines.extend(data.decode().splitlines())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def settings_in(home: Path, **more: str) -> Settings:
    return settings_module.load({"PIPE_HOME": str(home), "PIPE_USER": "tester", **more})


def git(folder: Path, *args: str, **env: str) -> str:
    """Run git in a repository of the test, as a person would."""
    who = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    who |= {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org", "HOME": str(folder.parent)}
    done = process.run(["git", *args], cwd=folder, env=settings_module.passed_on() | who | env)
    assert done.ok, done
    return done.text


def repository(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Make a repository with one commit on main."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name, text in (files or {"a.txt": "a\n"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "First commit")
    return folder


def work(settings: Settings, source: Path, event: Event, engine: object = None, **more: object) -> Work:
    """Return work on the first attempt at the first stage of a run."""
    spec = more.pop("spec", None) or Stage.model_validate({"image": "pipewright/debian:12", "run": "true"})
    number = int(more.pop("number", 1))
    position = int(more.pop("position", 0))
    run = Run(
        id=int(more.pop("run_id", 7)), pipeline=str(more.pop("pipeline", "hello")), status=Status.RUNNING, reason="",
        event=event, definition={}, environments={}, trusted=event.trusted, scope="here", created_at=0, started_at=0,
        finished_at=None, cancel_requested_at=None, retry_of=None,
    )  # fmt: skip
    stage = StageRun(
        id=70 + position, run_id=run.id, position=position, name=str(more.pop("name", "image")), base="image",
        kind=spec.kind, spec={}, matrix={}, needs=(), line=1, status=Status.RUNNING, cause="", reason="",
        allow_failure=False, attempts=1, outputs={}, image=None, result={}, started_at=0, finished_at=None,
    )  # fmt: skip
    attempt = Attempt(
        id=700 + number, stage_id=stage.id, number=number, status=Status.RUNNING, cause="", reason="", exit_code=None,
        worker="w", container="", commands=(), lines=0, started_at=0, finished_at=None,
    )  # fmt: skip
    given = {
        "db": record(settings), "lease": None, "log": Log(), "secrets": {}, "env": {}, "cancelled": threading.Event(),
        "deadline": time.time() + 300, "workspaces": source / ".pipe", "project": "",
    }  # fmt: skip
    return Work(
        settings=settings,
        engine=engine,
        run=run,
        stage=stage,
        attempt=attempt,
        spec=spec,
        source=source,
        **(given | more),
    )
