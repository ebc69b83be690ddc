"""Secrets that the installation keeps: by scope and name, every version, encrypted with a key kept elsewhere.

The key is a file of the home folder that only its owner reads: a copy of the database alone gives nothing away. A
value can be kept, used and withdrawn, and is never shown. What a laptop's runs use instead is `laptop`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from pipeline import audit
from pipeline.db import moment
from pipeline.errors import DefinitionError, NotFound, Unavailable
from pipeline.schema import secrets

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

    from pipeline.db import Database
    from pipeline.settings import Settings

KEY = "secret.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A secret as it may be listed: never its value."""

    scope: str  # "" for all, a pipeline's name, or application.environment
    name: str
    version: int
    by: str
    created_at: float
    withdrawn: bool


def keep(db: Database, settings: Settings, *, scope: str, name: str, value: str, by: str) -> int:
    """Keep a new version of a secret and return its number. Raises DefinitionError for a name that is none."""
    if not name.isidentifier():
        raise DefinitionError(f"`{name}` is no name for a secret", hint="letters, digits and _, like DATABASE_URL")
    return _add(db, scope, name, _cipher(settings).encrypt(value.encode()).decode(), by, "secret.kept")


def withdraw(db: Database, *, scope: str, name: str, by: str) -> int:
    """Let a secret be given to nobody any more; earlier versions stay for rollbacks. Raises NotFound."""
    if not any(one.scope == scope and one.name == name and not one.withdrawn for one in listing(db)):
        raise NotFound(f"there is no secret {name} in `{scope or 'all'}`", hint="the listing names those that exist")
    return _add(db, scope, name, None, by, "secret.withdrawn")


def listing(db: Database) -> list[Kept]:
    """Return the newest version of every secret."""
    newest = select(secrets.c.scope, secrets.c.name, func.max(secrets.c.version).label("version"))
    newest_of = newest.group_by(secrets.c.scope, secrets.c.name).subquery()
    same = (secrets.c.scope == newest_of.c.scope) & (secrets.c.name == newest_of.c.name)
    joined = secrets.join(newest_of, same & (secrets.c.version == newest_of.c.version))
    with db.read() as connection:
        rows = connection.execute(select(secrets).select_from(joined).order_by(secrets.c.scope, secrets.c.name))
        return [
            Kept(
                scope=row.scope,
                name=row.name,
                version=row.version,
                by=row.by,
                created_at=row.created_at,
                withdrawn=row.value is None,
            )
            for row in rows
        ]


def values(
    db: Database, settings: Settings, names: Iterable[str], *, scopes: Sequence[str], at: float | None = None
) -> dict[str, str]:
    """Return the values of secrets, each from the first of `scopes` that has it; `at` asks for those of that time.

    Raises NotFound naming every one that is missing, Unavailable when the key does not fit.
    """
    wanted = list(dict.fromkeys(names))
    found = {name: row.value for name in wanted if (row := _row(db, name, scopes, at)) is not None and row.value}
    missing = [name for name in wanted if name not in found]
    if missing:
        where = " or ".join(scope or "all" for scope in scopes)
        raise NotFound(
            f"{'secret' if len(missing) == 1 else 'secrets'} {', '.join(missing)} not found in {where}",
            hint="whoever runs the server keeps secrets",
        )
    cipher = _cipher(settings) if found else None
    return {name: _open(cipher, name, token) for name, token in found.items()}


def _row(db: Database, name: str, scopes: Sequence[str], at: float | None) -> Any:
    with db.read() as connection:
        for scope in scopes:
            mine = (secrets.c.scope == scope) & (secrets.c.name == name)
            if at is not None:
                mine &= secrets.c.created_at <= at
            query = select(secrets).where(mine).order_by(secrets.c.version.desc()).limit(1)
            if (row := connection.execute(query).first()) is not None:
                return row
    return None


def _add(db: Database, scope: str, name: str, value: str | None, by: str, what: str) -> int:
    with db.write() as tx:
        mine = (secrets.c.scope == scope) & (secrets.c.name == name)
        version = int(tx.execute(select(func.max(secrets.c.version)).where(mine)).scalar() or 0) + 1
        row = {"scope": scope, "name": name, "version": version, "value": value, "by": by, "created_at": moment(tx)}
        tx.execute(secrets.insert().values(**row))
        audit.append(tx, who=by, origin="cli", what=what, subject=f"{scope}/{name}", detail={"version": version})
        return version


def _cipher(settings: Settings) -> Fernet:
    """Return the cipher of this home's key, which is made when it is first needed and readable to its owner only."""
    from cryptography.fernet import Fernet

    path = settings.home / KEY
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{KEY}.{os.getpid()}")
            new.touch(mode=0o600)
            new.write_bytes(Fernet.generate_key())
            try:
                os.link(new, path)  # whoever is first has made the key
            except FileExistsError:
                pass
            finally:
                new.unlink()
        return Fernet(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unavailable(f"the key of the secrets at {path} can not be read: {error}", hint="restore it") from error


def _open(cipher: Fernet | None, name: str, token: str) -> str:
    from cryptography.fernet import InvalidToken

    assert cipher is not None
    try:
        return cipher.decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise Unavailable(
            f"the secret {name} was kept with another key", hint="restore the home's secret.key, or keep it anew"
        ) from error
