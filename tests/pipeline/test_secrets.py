"""Secrets that the installation keeps: found by scope, kept by version, shown to nobody, useless without the key."""

from __future__ import annotations

import stat

import pytest
from sqlalchemy import select

from pipeline import audit, schema, secrets
from pipeline.errors import DefinitionError, NotFound, Unavailable


def keep(db, settings, value, *, scope="", name="TOKEN"):
    return secrets.keep(db, settings, scope=scope, name=name, value=value, by="ada")


def test_a_secret_is_given_as_it_was_kept(db, settings):
    keep(db, settings, "ä\nb")
    assert secrets.values(db, settings, ["TOKEN"], scopes=[""]) == {"TOKEN": "ä\nb"}


def test_the_narrower_scope_wins(db, settings):
    keep(db, settings, "all")
    keep(db, settings, "here", scope="shop.test")
    assert secrets.values(db, settings, ["TOKEN"], scopes=["shop.test", "shop", ""]) == {"TOKEN": "here"}
    assert secrets.values(db, settings, ["TOKEN"], scopes=["shop.release", "shop", ""]) == {"TOKEN": "all"}


def test_an_earlier_time_has_its_own_version(db, settings, clock):
    keep(db, settings, "one")
    then = db.now()
    clock.leap(60)
    assert keep(db, settings, "two") == 2
    assert secrets.values(db, settings, ["TOKEN"], scopes=[""]) == {"TOKEN": "two"}
    assert secrets.values(db, settings, ["TOKEN"], scopes=[""], at=then) == {"TOKEN": "one"}


def test_a_withdrawn_secret_is_given_to_nobody(db, settings):
    keep(db, settings, "one")
    secrets.withdraw(db, scope="", name="TOKEN", by="bob")
    with pytest.raises(NotFound):
        secrets.values(db, settings, ["TOKEN"], scopes=[""])
    with pytest.raises(NotFound):
        secrets.withdraw(db, scope="", name="TOKEN", by="bob")
    assert [(one.version, one.withdrawn, one.by) for one in secrets.listing(db)] == [(2, True, "bob")]


def test_all_that_is_missing_is_named(db, settings):
    keep(db, settings, "one")
    with pytest.raises(NotFound, match="secrets A, B not found in shop or all"):
        secrets.values(db, settings, ["A", "TOKEN", "B"], scopes=["shop", ""])


def test_the_database_alone_gives_nothing_away(db, settings):
    keep(db, settings, "hunter2-hunter2")
    with db.read() as connection:
        row = connection.execute(select(schema.secrets)).one()
    assert "hunter2" not in str(tuple(row))
    key = settings.home / secrets.KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.unlink()
    with pytest.raises(Unavailable, match="another key"):
        secrets.values(db, settings, ["TOKEN"], scopes=[""])


def test_keeping_and_withdrawing_is_audited_without_the_value(db, settings):
    keep(db, settings, "hunter2-hunter2")
    secrets.withdraw(db, scope="", name="TOKEN", by="bob")
    entries = audit.listing(db)
    assert {(entry.who, entry.what) for entry in entries} == {("ada", "secret.kept"), ("bob", "secret.withdrawn")}
    assert "hunter2" not in str(entries)


def test_a_name_that_is_none_is_refused(db, settings):
    with pytest.raises(DefinitionError, match="no name for a secret"):
        keep(db, settings, "x", name="A-B")
