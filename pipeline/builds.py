"""What was built from what: for the cache report (what broke it?) and for the disk budget (what was used last?).

An image is known by its id. Which images are removed, and how, is the runners' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update

from pipeline.db import inserted, moment
from pipeline.schema import builds

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.queue import Lease


def record(
    lease: Lease,
    *,
    pipeline: str,
    base: str,
    branch: str,
    image_id: str,
    files: Mapping[str, Any],
    steps: Sequence[Any],
    size_bytes: int = 0,
) -> int:
    """Store what the lease's stage built; recorded again, the later one counts. Return its id. Raises LeaseLost.

    `base` is the name under which the next build looks for this one, `branch` the line of builds it belongs to.
    """
    with lease.db.write() as tx:
        lease.guard(tx)
        tx.execute(delete(builds).where(builds.c.stage_id == lease.ref))
        # only the last build of a line is compared with: what went into those before it is not kept
        same = (builds.c.pipeline == pipeline) & (builds.c.base == base) & (builds.c.branch == branch)
        tx.execute(update(builds).where(same).values(files={}))
        now = moment(tx)
        row = {
            "stage_id": lease.ref,
            "pipeline": pipeline,
            "base": base,
            "branch": branch,
            "image_id": image_id,
            "files": dict(files),
            "steps": list(steps),
            "size_bytes": size_bytes,
            "used_at": now,
            "created_at": now,
        }
        return inserted(tx, builds, row)


def previous(db: Database, pipeline: str, base: str, branch: str, default_branch: str = "") -> Mapping[str, Any] | None:
    """Return the last build under this name on this branch, or else on the default branch, or else None."""
    mine = (builds.c.pipeline == pipeline) & (builds.c.base == base)
    with db.read() as connection:
        for name in dict.fromkeys((branch, default_branch)):
            query = select(builds).where(mine, builds.c.branch == name).order_by(builds.c.id.desc()).limit(1)
            row = connection.execute(query).mappings().first()
            if row:
                return dict(row)
    return None


def use(db: Database, image_id: str) -> None:
    """Note that an image was used now."""
    with db.write() as tx:
        tx.execute(update(builds).where(builds.c.image_id == image_id).values(used_at=moment(tx)))


def images(db: Database) -> list[tuple[str, float, int]]:
    """Return (image id, last use, size in bytes) of every image built here, the longest unused first."""
    last = func.max(builds.c.used_at).label("last")
    query = (
        select(builds.c.image_id, last, func.max(builds.c.size_bytes))
        .where(builds.c.image_id != "")
        .group_by(builds.c.image_id)
        .order_by(last)
    )
    with db.read() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def steps(db: Database) -> list[Mapping[str, Any]]:
    """Return every step of every build here, as it was recorded."""
    with db.read() as connection:
        return [step for found in connection.scalars(select(builds.c.steps)) for step in found]


def forget(db: Database, image_id: str) -> None:
    """Note that an image is gone. How it was built stays known: its layers may still be in the builder's cache."""
    with db.write() as tx:
        tx.execute(update(builds).where(builds.c.image_id == image_id).values(image_id=""))
