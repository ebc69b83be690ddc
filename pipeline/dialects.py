"""How each kind of database is connected to, and what its refusals mean to a person.

The only place that knows SQLite from PostgreSQL by name, beside the few statements in `db` and
`queue` that differ. Power loss must not take back what was answered: `synchronous=FULL`.
"""

from __future__ import annotations

import os
import select
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import QueuePool, StaticPool

from pipeline.bell import CHANNEL, Bell
from pipeline.errors import Unavailable

TURN = 7309451  # the advisory lock that PostgreSQL's writers take, one after the other


@dataclass(frozen=True)
class Connected:
    """A database as `db` uses it: where to write, where to read, what rings, and how safe a commit is."""

    writer: Engine
    reader: Engine
    bell: Bell
    durably: Callable[[bool], None]  # whether the next commits survive a power loss by themselves


def connect(url: str, busy_seconds: float) -> Connected:
    """Connect to a database. Raises Unavailable."""
    if url.startswith("sqlite:"):
        return _sqlite(url, busy_seconds)
    if url.startswith(("postgres:", "postgresql:", "postgresql+psycopg:")):
        return _postgresql(url, busy_seconds)
    raise Unavailable(
        f"PIPE_DATABASE_URL names no database that is known here: {url.partition(':')[0]}",
        hint="write sqlite:///path or postgresql://user@host/name",
    )


def _sqlite(url: str, busy_seconds: float) -> Connected:
    path = _path(url)
    if path.name in ("", ":memory:"):
        raise Unavailable("a record in memory is none", hint="write sqlite:////absolute/path in PIPE_DATABASE_URL")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # its -wal and -shm take over the mode
        first = _sqlite_connection(path, busy_seconds, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", hint=_SQLITE_HINTS["SQLITE_CANTOPEN"]) from error
    except sqlite3.Error as error:
        raise _sqlite_refusal(str(path), error) or Unavailable(f"{path}: {error}") from error
    writer = create_engine("sqlite://", creator=lambda: first, poolclass=StaticPool)
    event.listen(writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    reader = create_engine(
        "sqlite://",
        creator=lambda: _sqlite_connection(path, busy_seconds, "query_only=ON"),
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=60,
    )
    event.listen(reader, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    lock = threading.Lock()
    watch: list[sqlite3.Connection] = []

    def glance() -> int:
        try:
            with lock:
                if not watch:
                    watch.append(_sqlite_connection(path, busy_seconds, "query_only=ON"))
                return int(watch[0].execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            return -1  # who is woken by that looks at the tables and is told properly

    def let_go() -> None:
        with lock:
            while watch:
                watch.pop().close()

    def durably(safe: bool) -> None:
        first.execute(f"PRAGMA synchronous={'FULL' if safe else 'NORMAL'}")

    return Connected(writer, reader, Bell(glance=glance, let_go=let_go), durably)


def _sqlite_connection(path: Path, busy_seconds: float, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _postgresql(url: str, busy_seconds: float) -> Connected:
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    # A writer that was stopped in the middle must not stop everybody for ever: the server ends its session.
    waits = f"-c lock_timeout={int(busy_seconds * 1000)} -c idle_in_transaction_session_timeout=60000"
    asked = parsed.query.get("options", "")
    options = f"{asked if isinstance(asked, str) else ' '.join(asked)} {waits}".strip()
    try:
        engine = create_engine(
            parsed, pool_size=8, max_overflow=56, pool_pre_ping=True, connect_args={"options": options}
        )
    except ModuleNotFoundError as error:
        raise Unavailable(
            "PostgreSQL's driver is not installed here", hint="install the extra: pip install 'pipewright[postgres]'"
        ) from error

    listener = _Listener(parsed.set(drivername="postgresql").render_as_string(hide_password=False))
    bell = Bell(listen=listener.listen, let_go=listener.let_go)
    return Connected(engine, engine, bell, lambda safe: None)


class _Listener:
    """Hears the commits of other processes on a connection of its own, and connects again when that is cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._awake, self._alarm = os.pipe()
        self._listening = False

    def listen(self, bell: Bell) -> None:
        """Ring `bell` until it is closed."""
        import psycopg

        self._listening = True
        while not bell.closed.is_set():
            try:
                with psycopg.connect(self._target, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    bell.ring()  # something may have happened before we listened
                    while not bell.closed.is_set():
                        select.select([connection.fileno(), self._awake], [], [])
                        if list(connection.notifies(timeout=0)):
                            bell.ring()
            except psycopg.Error:
                bell.closed.wait(1)
        os.close(self._awake)

    def let_go(self) -> None:
        """End the waiting of `listen`; the bell is closed."""
        os.close(self._alarm)
        if not self._listening:
            os.close(self._awake)


_SQLITE_HINTS = {
    "SQLITE_BUSY": "another process holds it for very long: look with `fuser` who has the file open, then try again",
    "SQLITE_LOCKED": "another process holds it for very long: look with `fuser` who has the file open, then try again",
    "SQLITE_FULL": "free some space (`pipe gc`, `df -h`); nothing was half-written, and runs go on with `--resume`",
    "SQLITE_READONLY": "the file and its folder must be writable by this user, or set PIPE_HOME to another folder",
    "SQLITE_CANTOPEN": "the folder must be writable by this user, or set PIPE_HOME to another folder",
    "SQLITE_PERM": "the file and its folder must be writable by this user, or set PIPE_HOME to another folder",
    "SQLITE_CORRUPT": "keep the file, restore a backup, or set PIPE_HOME to another folder and begin anew",
    "SQLITE_NOTADB": "keep the file, restore a backup, or set PIPE_HOME to another folder and begin anew",
    "SQLITE_IOERR": "the disk did not do as told: look at `dmesg` and `df -h`; network file systems do not work",
}
_SQLITE_NEWS = {
    "SQLITE_BUSY": "is locked by another process",
    "SQLITE_LOCKED": "is locked by another process",
    "SQLITE_FULL": "can not grow: the disk is full",
    "SQLITE_READONLY": "can not be written",
    "SQLITE_CANTOPEN": "can not be opened",
    "SQLITE_PERM": "can not be opened",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_NOTADB": "is not a database, or is damaged",
    "SQLITE_IOERR": "can not be read or written",
}
_REFUSED = ("refuses", "look at user, password and database in PIPE_DATABASE_URL, and at the server's pg_hba.conf")
_AWAY = ("can not be reached", "is PostgreSQL running there? look at PIPE_DATABASE_URL")
_POSTGRESQL = {  # classes and codes of SQLSTATE
    "42501": ("does not permit this", "the user must own the database's schema, or be granted the rights to it"),
    "53": ("has no resources left", "look at its disk and max_connections; runs go on when it recovers"),
    "25006": ("is read-only", "PIPE_DATABASE_URL must name the primary server"),
    "40": ("took another transaction first", "try again"),
    "55": ("is locked by another session", "try again; pg_stat_activity shows who holds it"),
    "57": ("is shutting down or starting up", "try again in a moment; runs go on when it is back"),
}


def refusal(url: str, error: exc.DBAPIError) -> Unavailable | None:
    """Return what a database's error means to a person, or None when it is a mistake of ours."""
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_refusal(shown(url), error.orig)
    code = getattr(error.orig, "sqlstate", None) or ""
    news, hint = _POSTGRESQL.get(code) or _POSTGRESQL.get(code[:2]) or ("", "")
    first = (str(error.orig).strip().splitlines() or [""])[0]
    if not news and isinstance(error, exc.OperationalError):  # no code: no connection, or no answer on it
        _, fatal, told = first.partition("FATAL: ")
        news, hint, first = (*_REFUSED, told.strip()) if fatal else (*_AWAY, first)
    return Unavailable(f"{shown(url)} {news}: {first}", hint=hint) if news else None


def shown(url: str) -> str:
    """Return the URL as a person may read it, without a password."""
    return str(_path(url)) if url.startswith("sqlite:") else make_url(url).render_as_string()


def _path(url: str) -> Path:
    """Return the file of a SQLite URL, taken literally: a folder may have any name."""
    return Path(url.removeprefix("sqlite:").removeprefix("///"))


def _sqlite_refusal(path: str, error: sqlite3.Error) -> Unavailable | None:
    name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])  # SQLITE_IOERR_WRITE -> SQLITE_IOERR
    return Unavailable(f"{path} {_SQLITE_NEWS[name]}", hint=_SQLITE_HINTS[name]) if name in _SQLITE_NEWS else None
