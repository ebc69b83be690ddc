"""The database: one file by default, PostgreSQL by URL; who may write, and what a refusal means.

Writers take turns, on both: `BEGIN IMMEDIATE` on SQLite, one advisory lock on PostgreSQL. A verb
may therefore read, decide and write in one transaction without thinking of races; the
queue's own claims and heartbeats take no turn (`serial=False`). Tables are `schema`, their history is
`migrations`; what the rows mean is told by the verbs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from pipeline.bell import CHANNEL
from pipeline.dialects import TURN, Connected, connect, refusal, shown
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from pipeline.settings import Settings

LEAP_SECONDS = 2.0
HEAD = "0002"  # the newest revision in `migrations`; a test compares


class Database:
    """The record of one installation. Threads may share it; forked children may not."""

    def __init__(self, url: str, connected: Connected, clock: Callable[[], float] | None) -> None:
        """Take what `at` has connected to."""
        self.url = url
        self.dialect = connected.writer.dialect.name
        self.bell = connected.bell
        self.installation = ""
        self._writer, self._reader, self._durably = connected.writer, connected.reader, connected.durably
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._clock = clock
        self._offset = 0.0  # PostgreSQL's clock minus our monotonic clock
        self._leaps = threading.Lock()
        self._steady_offset = time.time() - time.monotonic()
        self._leapt_at = float("-inf")

    @classmethod
    def open(
        cls, settings: Settings, *, clock: Callable[[], float] | None = None, busy_seconds: float = 30.0
    ) -> Database:
        """Open the record, making or upgrading it where needed.

        Raises Unavailable with a hint: locked, full, read-only, damaged, newer than this program, out of reach.
        """
        return cls.at(settings.database_url, clock=clock, busy_seconds=busy_seconds)

    @classmethod
    def at(cls, url: str, *, clock: Callable[[], float] | None = None, busy_seconds: float = 30.0) -> Database:
        """Open the record at a URL; see `open`."""
        db: Database | None = None
        with _refusals(url):
            db = cls(url, connect(url, busy_seconds), clock)
            try:
                db._check()
                db._set_clock()
            except BaseException:
                db.close()
                raise
        return db

    @contextmanager
    def write(self, *, serial: bool = True, durable: bool = True) -> Iterator[Connection]:
        """Give a transaction that may write; commit at the end, roll back on any error; ring the bell.

        `serial=False` takes no turn among PostgreSQL's writers and rings no bell: for claims and heartbeats,
        which touch one row each. `durable=False` lets SQLite make it safe against power loss only together with the
        next durable commit. Transactions do not nest. Raises Unavailable.
        """
        if self._turn_of == threading.get_ident():
            raise RuntimeError("a transaction inside a transaction: pass `tx` down instead")
        alone = self.dialect == "sqlite"
        if alone:
            self._turn.acquire()
            self._turn_of = threading.get_ident()
        try:
            if not durable:
                self._durably(False)
            with _refusals(self.url), self._writer.begin() as tx:
                if serial and not alone:
                    self._take_turn(tx)
                tx.info["clock"] = self.now
                yield tx
        finally:
            if not durable:
                self._durably(True)
            if alone:
                self._turn_of = None
                self._turn.release()
        if serial:
            self.bell.ring()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that only reads and that no writer blocks. Raises Unavailable."""
        with _refusals(self.url), self._reader.connect() as connection:
            yield connection

    def now(self) -> float:
        """Return the time in UTC epoch seconds: the injected clock, or PostgreSQL's, or this machine's."""
        if self._clock:
            return self._clock()
        return time.monotonic() + self._offset if self._offset else time.time()

    def steady(self, seconds: float) -> bool:
        """Tell whether this machine's clock has not leapt (set by hand, or woken from sleep) in the last `seconds`.

        After a leap every lease looks as if it had run out, or as if it never would; who holds one renews it soon.
        """
        if self._clock or self.dialect == "postgresql":
            return True
        offset, now = time.time() - time.monotonic(), time.monotonic()
        with self._leaps:
            if abs(offset - self._steady_offset) > LEAP_SECONDS:
                self._leapt_at = now
            self._steady_offset = offset
            return now - self._leapt_at >= seconds

    def close(self) -> None:
        """Close all connections; idempotent."""
        self.bell.close()
        self._writer.dispose()
        self._reader.dispose()

    def _check(self) -> None:
        found = self._look()
        if found is None:
            from pipeline import migrations

            with self._writer.begin() as tx:
                migrations.create(tx, HEAD, self.now())
            found = self._look() or ("", "")
        if found[0] < HEAD:
            from pipeline import migrations

            migrations.upgrade(self._writer)
            found = self._look() or ("", "")
        version, self.installation = found
        if version != HEAD:
            raise Unavailable(
                f"{shown(self.url)} was written by a newer Pipewright (schema {version}, this one knows {HEAD})",
                hint="use that version, or point PIPE_HOME or PIPE_DATABASE_URL elsewhere",
            )

    def _look(self) -> tuple[str, str] | None:
        """Return (schema version, installation), or None when there is nothing yet."""
        try:
            with self._reader.connect() as connection:
                row = connection.exec_driver_sql("SELECT version_num, id FROM alembic_version, installation").first()
        except (exc.OperationalError, exc.ProgrammingError) as error:
            if "no such table" in str(error) or "does not exist" in str(error):
                return None
            raise
        return (row[0], row[1]) if row else None

    def _take_turn(self, tx: Connection) -> None:
        """Wait for the other writers, announce a commit to whoever listens, and set our clock: one round trip."""
        row = tx.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock({TURN}), pg_notify('{CHANNEL}', ''),"
            " extract(epoch FROM clock_timestamp())::float8"
        ).one()
        self._offset = float(row[2]) - time.monotonic()

    def _set_clock(self) -> None:
        if self.dialect == "postgresql":
            with self._reader.connect() as connection:
                theirs = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
            self._offset = float(theirs) - time.monotonic()


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise  # a constraint is a lock or a law of ours: the verb knows which
    except exc.DBAPIError as error:
        known = refusal(url, error)
        if known is None:
            raise
        raise known from error


def moment(tx: Connection) -> float:
    """Return the time by the clock of the database that `tx` belongs to."""
    return float(tx.info["clock"]())


def inserted(tx: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row and return its id."""
    key = tx.execute(table.insert().values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])
