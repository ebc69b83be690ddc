"""The audit: rows are only added, and whatever was done to them is found."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, exc

from pipeline import audit
from pipeline.schema import audit as table


def write(db, count=3):
    for number in range(count):
        with db.write() as tx:
            audit.append(
                tx, who=f"ada {number}", origin="cli", what="approve", subject="shop.release", detail={"n": number}
            )


def tampered(db, db_url, *statements):
    """Do to the file or the server what someone with all rights could do."""
    engine = create_engine(db_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as tx:
        if db.dialect == "sqlite":
            for verb in ("update", "delete"):
                tx.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
        else:
            tx.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        for statement in statements:
            tx.exec_driver_sql(statement)
    engine.dispose()


def test_an_empty_audit_is_whole(db):
    assert audit.verify(db) == audit.Verdict(0, audit.START, None)


def test_what_was_written_is_listed_newest_first_and_is_whole(db):
    write(db)
    assert [entry.who for entry in audit.listing(db)] == ["ada 2", "ada 1", "ada 0"]
    assert audit.listing(db, subject="other") == []
    verdict = audit.verify(db)
    assert (verdict.rows, verdict.broken) == (3, None)
    assert verdict.head == audit.listing(db)[0].hash


def test_times_of_any_precision_are_whole(db, clock):
    for leap in (0.1, 1 / 3, 1e-7, 12345.678901234567):
        clock.leap(leap)
        write(db, 1)
    assert audit.verify(db).broken is None


def test_rows_can_not_be_changed_or_deleted(db):
    write(db)
    for statement in (table.update().values(who="eve"), table.delete()):
        with pytest.raises(exc.IntegrityError, match="append-only"), db.write() as tx:
            tx.execute(statement)
    assert audit.verify(db).broken is None


@pytest.mark.parametrize("column", ["who", "origin", "what", "subject"])
def test_a_changed_row_is_found(db, db_url, column):
    write(db)
    tampered(db, db_url, f"UPDATE audit SET {column} = 'eve' WHERE id = 2")
    verdict = audit.verify(db)
    assert (verdict.rows, verdict.broken) == (1, 2)
    assert "was changed" in verdict.reason


def test_a_changed_time_or_detail_is_found(db, db_url):
    write(db)
    tampered(
        db, db_url, "UPDATE audit SET detail = '{\"n\": 7}' WHERE id = 3", "UPDATE audit SET at = at + 1 WHERE id = 2"
    )
    assert audit.verify(db).broken == 2


def test_a_missing_row_is_found(db, db_url):
    write(db)
    tampered(db, db_url, "DELETE FROM audit WHERE id = 2")
    verdict = audit.verify(db)
    assert verdict.broken == 3
    assert "does not follow" in verdict.reason


def test_an_end_that_was_cut_off_is_found_by_a_head_kept_elsewhere(db, db_url):
    write(db)
    head = audit.verify(db).head
    assert audit.verify(db, head=head).broken is None
    write(db, 2)
    assert audit.verify(db, head=head).broken is None
    tampered(db, db_url, "DELETE FROM audit WHERE id >= 3")
    assert audit.verify(db).broken is None
    verdict = audit.verify(db, head=head)
    assert verdict.broken == 0
    assert "cut off" in verdict.reason


def test_many_writers_at_once_make_one_chain(db):
    threads = [threading.Thread(target=write, args=(db, 10)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = audit.verify(db)
    assert (verdict.rows, verdict.broken) == (60, None)
