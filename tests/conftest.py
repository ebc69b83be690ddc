"""What all tests may stand on: settings, a clock that can leap, the record on both databases."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from pipeline import settings as settings_module
from pipeline.db import Database
from pipeline.settings import Settings
from tests.postgres import Server

_BEGAN = time.time()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the networks that sandboxes of these tests' installations were in: an engine has addresses for few."""
    if hasattr(session.config, "workerinput"):
        return  # one of several processes of the tests; the first of them does it
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        found = client.networks.list(filters={"label": "pipewright.role=sandboxes"})
    except DockerException:
        return
    for network in found:
        if datetime.fromisoformat(network.attrs["Created"][:19] + "+00:00").timestamp() >= _BEGAN - 1:
            with contextlib.suppress(DockerException):  # still in use, or gone
                network.remove()
    client.close()


DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))


class Clock:
    """The time of day, until a test lets it leap."""

    def __init__(self) -> None:
        self._leaps = 0.0

    def __call__(self) -> float:
        """Return the time in epoch seconds."""
        return time.time() + self._leaps

    def leap(self, seconds: float) -> None:
        """Let time pass at once."""
        self._leaps += seconds


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home is a folder of this test's own."""
    return settings_module.load({"PIPE_HOME": str(tmp_path / "home"), "PIPE_USER": "tester", "PATH": "/usr/bin:/bin"})


@pytest.fixture
def clock() -> Clock:
    """A clock that can leap; `db` goes by it."""
    return Clock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The PostgreSQL server of this test run."""
    with Server().running() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file that holds the schema and nothing else."""
    path = tmp_path_factory.mktemp("template") / "pipewright.db"
    Database.at(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=DATABASES)
def dialect(request: pytest.FixtureRequest) -> str:
    """Once `sqlite`, once `postgresql`."""
    return str(request.param)


@pytest.fixture
def db_url(dialect: str, request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The URL of a new database with the schema: once SQLite, once PostgreSQL."""
    if dialect == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        settings.home.mkdir(parents=True)
        shutil.copy(template, settings.home / "pipewright.db")
        yield f"sqlite:///{settings.home / 'pipewright.db'}"
    else:
        with request.getfixturevalue("postgres_server").database() as url:
            yield url


@pytest.fixture
def empty_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables: once SQLite, once PostgreSQL."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with request.getfixturevalue("postgres_server").empty_database() as url:
            yield url


@pytest.fixture
def db(db_url: str, clock: Clock) -> Iterator[Database]:
    """The record, opened: once on SQLite, once on PostgreSQL; its time is `clock`."""
    database = Database.at(db_url, clock=clock)
    yield database
    database.close()


@pytest.fixture
def sqlite_db(settings: Settings, clock: Clock) -> Iterator[Database]:
    """The record on SQLite alone, for tests to which the database is all the same."""
    database = Database.open(settings, clock=clock)
    yield database
    database.close()
