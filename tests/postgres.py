"""A PostgreSQL of our own for the tests: unprivileged, on a Unix socket in a temporary folder, without durability.

One server serves all workers of a test run (a lock file tells who starts and who stops it); every test has a
database of its own, copied from a template that holds the schema. No service of the machine is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.db import Database

ROOT = Path("/tmp")
PREFIX = "pipewright-postgres-"
TEMPLATE = "pipewright_template"
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


class Server:
    """The server that all workers of this test run share."""

    def __init__(self) -> None:
        self.binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
        controller = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        self.folder = ROOT / f"{PREFIX}{controller}"
        self.owner = "postgres" if os.getuid() == 0 else None

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://pipewright@/{name}?host={self.folder}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """Start the server unless another worker has; the last one stops it."""
        if self.binaries is None:
            pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
        with self._locked():
            _remove_stale()
            users = self._count(+1)
            if users == 1:
                self._start()
        try:
            yield self
        finally:
            with self._locked():
                if self._count(-1) == 0:
                    _stop(self.folder)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give the URL of a new database that has the schema, and drop it afterwards."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def empty_database(self) -> Iterator[str]:
        """Give the URL of a new database without tables, and drop it afterwards."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _start(self) -> None:
        if self.owner:
            owner = pwd.getpwnam(self.owner)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        data = self.folder / "data"
        self._run("initdb", "-D", str(data), "-U", "pipewright", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = " ".join(f"-c {name}='{value}'" for name, value in OPTIONS.items())
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "-D", str(data), "-l", log, "-o", f"-k {self.folder} {options}", "-w", "-s", "start")
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        Database.at(self.url(TEMPLATE)).close()

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self.binaries / program), *arguments]  # type: ignore[operator]
        subprocess.run(argv, check=True, capture_output=True, user=self.owner, cwd="/")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (ROOT / f"{PREFIX}lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _count(self, change: int) -> int:
        self.folder.mkdir(mode=0o755, exist_ok=True)
        counter = self.folder / "users"
        users = int(counter.read_text() if counter.exists() else 0) + change
        counter.write_text(str(users))
        return users


def _remove_stale() -> None:
    """Stop servers whose test run was killed: their folder is named after a process that is gone."""
    for folder in ROOT.glob(f"{PREFIX}*/"):
        number = folder.name.removeprefix(PREFIX)
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            _stop(folder)


def _stop(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGINT)  # fast shutdown
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)
