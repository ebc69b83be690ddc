"""Throw-away projects to measure with: a git repository, a definition, and a PIPE_HOME of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from bench.measure import Ran, demand, run

PIPE = Path(sys.executable).with_name("pipe")
IMAGE = os.environ.get("PIPE_BASE_IMAGE", "pipewright/debian:12")


class Project:
    """A folder with a repository, removed with everything at the end."""

    def __init__(self, definition: str, files: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pipewright-bench-"))
        self.home = Path(tempfile.mkdtemp(prefix="pipewright-home-"))
        self.env = {
            "PIPE_HOME": str(self.home),
            "PIPE_REGISTRY_PORT": str(_free_port()),  # beside whatever else runs on this machine
            "PIPE_PUBLIC_PORTS": "18200-18299",
        }
        for name, text in {"pipe.yml": definition, ".gitignore": ".pipe/\n", **(files or {})}.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for argv in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "start"]):
            git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", *argv]
            subprocess.run(git, cwd=self.folder, check=True, stdin=subprocess.DEVNULL)

    def pipe(self, *arguments: str) -> Ran:
        """Run our command in the project."""
        return run([str(PIPE), *arguments], cwd=self.folder, env=self.env)

    def stage_seconds(self, stage: str) -> float:
        """Run the pipeline and return how long one stage took, as the run recorded it."""
        demand(self.pipe("run", "--plain"), "pipe run")
        shown = json.loads(demand(self.pipe("show", "--json"), "pipe show").out)
        found = next(s for s in shown["stages"] if s["stage"] == stage)
        return float(found["finished_at"]) - float(found["started_at"])

    def _remove_objects(self) -> None:
        """Remove the containers, networks, volumes and images of this project's own installation."""
        if not (self.home / "pipewright.db").exists():
            return
        with sqlite3.connect(self.home / "pipewright.db") as record:
            (installation,) = record.execute("SELECT id FROM installation").fetchone()
        record.close()
        mine = f"label=pipewright.installation={installation}"
        for kind, listing, removal in (
            ("container", ["-aq"], ["rm", "-fv"]),
            ("network", ["-q"], ["rm"]),
            ("volume", ["-q"], ["rm"]),
            ("image", ["-q"], ["rm", "-f"]),
        ):
            names = run(["docker", kind, "ls", *listing, "--filter", mine]).out.split()
            if names:
                run(["docker", kind, *removal, *dict.fromkeys(names)])

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_objects()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
