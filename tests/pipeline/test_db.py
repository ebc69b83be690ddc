"""The database: opened cheaply, upgraded truly, refused clearly."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select

from pipeline import db as db_module
from pipeline import migrations, schema
from pipeline.db import Database
from pipeline.errors import Unavailable
from tests.pipeline.filled import fill, rows


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


# --- opening and upgrading ------------------------------------------------------------------------------------------


def test_opening_at_head_does_not_import_alembic_nor_postgresql(db_url):
    code = (
        "import sys, time, sqlalchemy, sqlalchemy.dialects.sqlite\n"
        "from pipeline.db import Database\n"
        "started = time.perf_counter(); db = Database.at(sys.argv[1]); print(time.perf_counter() - started)\n"
        "print([name for name in ('alembic', 'sqlalchemy.dialects.postgresql') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, db_url], capture_output=True, text=True, check=True)
    seconds, imported = done.stdout.splitlines()
    if db_url.startswith("sqlite"):
        assert imported == "[]"
        assert float(seconds) < 0.5  # 2 ms on a quiet machine; the bench has the figure
    else:
        assert "alembic" not in imported


def test_a_new_record_and_an_upgraded_one_have_the_same_schema(db, empty_url):
    engine = create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    migrations.upgrade(engine)
    with db.read() as connection, engine.connect() as upgraded:
        assert _described(connection) == _described(upgraded)
    engine.dispose()


def test_the_newest_revision_is_the_one_that_the_code_expects():
    names = sorted(path.name for path in (Path(migrations.__file__).parent / "versions").glob("*.py"))
    assert names[-1].split("_")[0] == db_module.HEAD


def test_the_revisions_and_the_tables_agree():
    done = subprocess.run([sys.executable, "-m", "pipeline.migrations"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pass", done.stdout


def test_an_older_record_full_of_data_is_upgraded_when_it_is_opened(empty_url):
    engine = create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    migrations.upgrade(engine, "0001")
    with engine.begin() as tx:
        fill(tx)
        before = rows(tx)
    engine.dispose()
    database = Database.at(empty_url)
    assert database.installation == "11111111-2222-3333-4444-555555555555"
    with database.read() as connection:
        assert rows(connection) == before
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == db_module.HEAD
    database.close()


def test_many_processes_may_make_the_same_new_record_at_once(empty_url):
    code = "import sys; from pipeline.db import Database; print(Database.at(sys.argv[1]).installation)"
    children = [
        subprocess.Popen([sys.executable, "-c", code, empty_url], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    told = {child.communicate(timeout=120)[0] for child in children}
    assert all(child.returncode == 0 for child in children)
    assert len(told) == 1


def _described(connection):
    look = inspect(connection)
    found = {}
    for table in sorted(look.get_table_names()):
        columns = {c["name"]: (str(c["type"]), c["nullable"], _plain(c["default"])) for c in look.get_columns(table)}
        indexes = sorted(
            (i["name"], tuple(i["column_names"]), bool(i["unique"]), _condition(i)) for i in look.get_indexes(table)
        )
        unique = sorted((u["name"], tuple(u["column_names"])) for u in look.get_unique_constraints(table))
        foreign = sorted(
            (str(f["name"]), tuple(f["constrained_columns"]), f["referred_table"], str(f["options"]))
            for f in look.get_foreign_keys(table)
        )
        found[table] = (columns, indexes, unique, foreign, look.get_pk_constraint(table)["constrained_columns"])
    if connection.dialect.name == "sqlite":
        triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 1")
        numbered = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY 1"
        )
        found["numbered"] = [tuple(row) for row in numbered]
    else:
        triggers = connection.exec_driver_sql(
            "SELECT tgname, proname FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal ORDER BY 1"
        )
    found["triggers"] = [tuple(row) for row in triggers]
    assert found["triggers"]
    return found


def _condition(index):
    return sorted((key, str(value)) for key, value in index.get("dialect_options", {}).items())


def _plain(default):
    return (
        None
        if default is None
        else str(default).replace("'", "").replace("::text", "").replace("::character varying", "")
    )


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
