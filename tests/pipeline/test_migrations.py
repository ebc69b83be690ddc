"""New records and older ones: made cheaply, upgraded truly, always to the same schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, inspect

from pipeline import db as db_module
from pipeline import migrations
from pipeline.db import Database
from tests.pipeline.filled import fill, rows


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
