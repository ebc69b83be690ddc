"""As whom a stage's commands run: user and group id, and the home folder, as the image itself says.

Names are looked up in the image's own /etc/passwd and /etc/group, out of a container that is never started. This
machine's users have nothing to do with it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import StageFailed
from runners.engines import ContainerSpec, Engine


@dataclass(frozen=True, slots=True)
class User:
    """A user in an image."""

    uid: int
    gid: int
    home: str


ROOT = User(0, 0, "/root")


def find(engine: Engine, image: str, wish: str, *, name: str, labels: Mapping[str, str]) -> User:
    """Return the user that `wish` names ("" for root); `name` is for a container that only lends its files.

    Raises StageFailed when the image does not know the name.
    """
    user, _, group = wish.partition(":")
    if user in ("", "root", "0") and group in ("", "root", "0"):
        return ROOT
    lender = ContainerSpec(name=name, image=image, entrypoint=("true",), labels=labels)
    engine.remove(name)  # of an attempt that was interrupted right here
    engine.create(lender)
    try:
        people = _table(engine, name, "/etc/passwd")
        groups = _table(engine, name, "/etc/group")
    finally:
        engine.remove(name)
    return _resolved(user, group, people, groups, image)


def _resolved(user: str, group: str, people: list[list[str]], groups: list[list[str]], image: str) -> User:
    known = next((row for row in people if len(row) >= 6 and user in (row[0], row[2])), None)
    if known is None and not user.isdigit():
        raise StageFailed(
            f"the image `{image}` has no user `{user}`",
            hint='use a name from its /etc/passwd, or numbers: `user: "1000:1000"`',
        )
    uid = int(known[2]) if known else int(user)
    gid = int(known[3]) if known else 0
    if group:
        found = next((row for row in groups if len(row) >= 3 and group in (row[0], row[2])), None)
        if found is None and not group.isdigit():
            raise StageFailed(
                f"the image `{image}` has no group `{group}`", hint="use a name from its /etc/group, or a number"
            )
        gid = int(found[2]) if found else int(group)
    return User(uid, gid, (known[5] if known else "") or "/")


def _table(engine: Engine, container: str, path: str) -> list[list[str]]:
    """Return the rows of a file of colon-separated fields; none when the image does not have it."""
    packed = engine.copy_out(container, path)
    if packed is None:
        return []
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed))) as archive:
        member = archive.next()
        content = archive.extractfile(member) if member and member.isfile() and member.size < 1 << 20 else None
        text = content.read().decode(errors="replace") if content else ""
    return [line.split(":") for line in text.splitlines() if not line.startswith("#")]
