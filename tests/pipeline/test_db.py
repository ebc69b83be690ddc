"""The database: opened cheaply, upgraded truly, refused clearly."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import create_engine, inspect, select

from pipeline import db as db_module
from pipeline import schema
from pipeline.db import Database
from pipeline.errors import Unavailable


def test_a_new_record_gets_an_identity_that_stays(db, db_url):
    again = Database.at(db_url)
    assert again.installation == db.installation
    assert len(db.installation) == 36
    again.close()


def test_two_records_have_two_identities(tmp_path):
    one, other = (Database.at(f"sqlite:///{tmp_path / name}") for name in ("a.db", "b.db"))
    assert one.installation != other.installation
    one.close()
    other.close()


def test_what_was_written_is_read_and_what_was_rolled_back_is_not(db):
    with db.write() as tx:
        tx.execute(schema.outbox.insert().values(topic="a", subject="", body={"n": 1}, created_at=1.0))
    with pytest.raises(RuntimeError, match="on purpose"), db.write() as tx:  # noqa: PT012
        tx.execute(schema.outbox.insert().values(topic="b", subject="", body={}, created_at=1.0))
        raise RuntimeError("on purpose")
    with db.read() as connection:
        assert connection.execute(select(schema.outbox.c.topic, schema.outbox.c.body)).all() == [("a", {"n": 1})]


def test_readers_can_not_write(sqlite_db):
    with pytest.raises(Unavailable, match="can not be written"), sqlite_db.read() as connection:
        connection.execute(schema.outbox.insert().values(topic="a", subject="", body={}, created_at=1.0))


def test_a_reader_is_not_blocked_by_a_writer_and_does_not_see_half_of_it(db):
    with db.write() as tx:
        tx.execute(schema.outbox.insert().values(topic="a", subject="", body={}, created_at=1.0))
        with db.read() as connection:
            assert connection.execute(select(schema.outbox.c.id)).all() == []
    with db.read() as connection:
        assert len(connection.execute(select(schema.outbox.c.id)).all()) == 1


def test_only_what_may_be_lost_with_the_power_is_written_less_safely(sqlite_db):
    def safety(tx):
        return tx.exec_driver_sql("PRAGMA synchronous").scalar()

    with sqlite_db.write() as tx:
        assert safety(tx) == 2  # FULL
    with sqlite_db.write(durable=False) as tx:
        assert safety(tx) == 1  # NORMAL
    with pytest.raises(ZeroDivisionError), sqlite_db.write(durable=False):
        raise ZeroDivisionError
    with sqlite_db.write() as tx:
        assert safety(tx) == 2


def test_writers_take_turns_so_reading_before_writing_is_safe(db):
    with db.write() as tx:
        tx.execute(schema.outbox.insert().values(topic="0", subject="", body={}, created_at=1.0))

    def count_up():
        for _ in range(20):
            with db.write() as tx:
                value = int(tx.execute(select(schema.outbox.c.topic)).scalar_one())
                tx.execute(schema.outbox.update().values(topic=str(value + 1)))

    threads = [threading.Thread(target=count_up) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as connection:
        assert connection.execute(select(schema.outbox.c.topic)).scalar_one() == "120"


def test_a_transaction_inside_a_transaction_is_a_mistake_that_is_told(sqlite_db):
    with pytest.raises(RuntimeError, match="pass `tx` down"), sqlite_db.write(), sqlite_db.write():
        pass
    with sqlite_db.write():
        pass


def test_the_time_can_be_injected(db, clock):
    before = db.now()
    clock.leap(3600)
    assert db.now() - before >= 3600
    with db.write() as tx:
        assert db_module.moment(tx) - before >= 3600


def test_without_an_injected_clock_it_is_the_time_of_day(db_url):
    database = Database.at(db_url)
    assert abs(database.now() - time.time()) < 5
    database.close()


# --- the bell -------------------------------------------------------------------------------------------------------


def test_a_commit_rings_the_bell_for_a_waiting_thread(db):
    heard = db.bell.count()
    thread = threading.Thread(target=_commit, args=(db,))
    thread.start()
    started = time.monotonic()
    assert db.bell.wait(heard, timeout=20) != heard
    assert time.monotonic() - started < 10
    thread.join()


def test_a_ring_between_looking_and_waiting_is_not_missed(db):
    heard = db.bell.count()
    _commit(db)
    started = time.monotonic()
    assert db.bell.wait(heard, timeout=20) != heard
    assert time.monotonic() - started < 10


def test_the_bell_is_heard_from_another_process(db, db_url):
    heard = db.bell.wait(db.bell.count(), timeout=0.3)  # on PostgreSQL: until it listens
    code = (
        "import sys; from pipeline.db import Database; db = Database.at(sys.argv[1])\n"
        "with db.write() as tx: tx.exec_driver_sql('UPDATE installation SET created_at = 1')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, db_url])
    try:
        assert db.bell.wait(heard, timeout=30) != heard
    finally:
        assert child.wait(30) == 0


def test_waiting_for_a_silent_bell_ends(sqlite_db):
    heard = sqlite_db.bell.count()
    assert sqlite_db.bell.wait(heard, timeout=0.1) == heard


def test_closing_lets_everybody_go_who_waits(db_url):
    database = Database.at(db_url)
    heard = database.bell.count()
    thread = threading.Thread(target=database.bell.wait, args=(heard,), kwargs={"timeout": 60})
    thread.start()
    database.close()
    thread.join(20)
    assert not thread.is_alive()


def _commit(db):
    with db.write() as tx:
        tx.execute(schema.installation.update().values(created_at=2.0))


# --- refusals -------------------------------------------------------------------------------------------------------


def _refused(url, **options):
    with pytest.raises(Unavailable) as caught:
        Database.at(url, **options).close()
    assert caught.value.hint
    return caught.value


def test_a_record_of_a_newer_version_is_not_touched(db, db_url):
    with db.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    error = _refused(db_url)
    assert "newer Pipewright" in error.message


def test_somebody_elses_database_is_not_touched(empty_url):
    engine = create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE guests (name VARCHAR(10))")
    assert "guests" in _refused(empty_url).message
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["guests"]
    engine.dispose()


def test_a_locked_record_says_so(settings):
    Database.open(settings).close()
    holder = sqlite3.connect(settings.home / "pipewright.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    database = Database.open(settings, busy_seconds=0.1)
    with pytest.raises(Unavailable, match="locked by another process"), database.write():
        pass
    holder.execute("ROLLBACK")
    with database.write():
        pass
    database.close()
    holder.close()


def test_a_full_disk_says_so_and_the_record_recovers(sqlite_db):
    with sqlite_db.write() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # what SQLite meets when the disk has no room
    with pytest.raises(Unavailable, match="disk is full") as caught, sqlite_db.write() as tx:
        tx.execute(schema.outbox.insert().values(topic="a", subject="x" * 1_000_000, body={}, created_at=1.0))
    assert "pipe gc" in caught.value.hint
    with sqlite_db.write() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count = 100000000")
        tx.execute(schema.outbox.insert().values(topic="b", subject="x" * 1_000_000, body={}, created_at=1.0))
    with sqlite_db.read() as connection:
        assert connection.execute(select(schema.outbox.c.topic)).scalars().all() == ["b"]


def test_a_damaged_record_says_so(settings):
    Database.open(settings).close()
    file = settings.home / "pipewright.db"
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 40_000)
    assert "damaged" in _refused(settings.database_url).message
    file.write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    assert "is not a database" in _refused(settings.database_url).message


def test_a_record_in_a_folder_that_can_not_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in _refused(f"sqlite:///{tmp_path / 'file' / 'x' / 'pipewright.db'}").message


def test_a_folder_may_have_any_name(tmp_path):
    for name in ("with space", "ümläut", "100%", "a?b=c", "a#b", "%20", "a:b@c"):
        file = tmp_path / name / "pipewright.db"
        database = Database.at(f"sqlite:///{file}")
        with database.write() as tx:
            tx.exec_driver_sql("UPDATE installation SET created_at = 1")
        database.close()
        assert file.exists()


def test_a_record_in_memory_or_of_an_unknown_kind_is_refused():
    assert "memory" in _refused("sqlite://").message
    assert "mysql" in _refused("mysql://localhost/pipe").message


@pytest.mark.postgres
def test_a_server_that_is_not_there_or_refuses_says_so(postgres_server, tmp_path):
    assert "can not be reached" in _refused(f"postgresql://pipewright@/pipe?host={tmp_path}").message
    assert "refuses: database" in _refused(postgres_server.url("nothing_here")).message
    stranger = postgres_server.url("postgres").replace("pipewright@", "stranger:hush@")
    error = _refused(stranger)
    assert "refuses: role" in error.message
    assert "hush" not in str(error)


@pytest.mark.postgres
def test_a_writer_that_was_stopped_in_the_middle_is_told_of_and_ended(postgres_server):
    with postgres_server.database() as url:
        stuck, other = Database.at(url), Database.at(url, busy_seconds=0.1)
        with stuck.write():
            with pytest.raises(Unavailable, match="locked by another session"), other.write():
                pass
            with other.read() as connection:
                left = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
        assert left == "1min"
        with other.write():
            pass
        stuck.close()
        other.close()


@pytest.mark.postgres
def test_a_connection_that_the_server_cut_is_replaced(postgres_server):
    with postgres_server.database() as url:
        database = Database.at(url)
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        with pytest.raises(Unavailable), database.write() as tx:
            tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        with database.write() as tx:
            assert tx.exec_driver_sql("SELECT 1").scalar() == 1
        database.close()


@pytest.mark.postgres
def test_the_bell_is_heard_again_after_the_server_cut_the_line(postgres_server):
    with postgres_server.database() as url:
        database, other = Database.at(url), Database.at(url)
        heard = database.bell.wait(database.bell.count(), timeout=20)  # it rings once when it has begun to listen
        with other.read() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'"
                " AND datname = current_database()"
            )
        heard = database.bell.wait(heard, timeout=20)  # and once more when it listens again
        _commit(other)
        assert database.bell.wait(heard, timeout=20) != heard
        database.close()
        other.close()
