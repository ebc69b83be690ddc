"""The durable queue: jobs wait in a table and are taken under a lease.

A lease that is not renewed is given to another worker, so whoever does a job must be able to do it
twice; the fencing token rises with each claim, and every write of a worker begins with
`lease.guard(tx)`. What must not run at once shares a `lock`, which is a partial unique index. What a job
means is none of the queue's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, exc, exists, or_, select, update

from pipeline.db import inserted, moment
from pipeline.errors import LeaseLost
from pipeline.model import JobStatus
from pipeline.schema import jobs

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from pipeline.db import Database

LEASE_SECONDS = 15.0
LONGEST_SECONDS = 600.0  # no lease is longer: one that seems so is from before the clock was set back
LOSSES = 3  # a job whose lease is lost this often kills its workers: it is dead
BATCH = 50  # candidates looked at in one query


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to do one job, until it is lost. Renew it at a third of its length."""

    job_id: int
    kind: str
    ref: int
    token: int
    owner: str
    db: Database
    run_id: int | None = None
    lease_seconds: float = LEASE_SECONDS
    losses: int = 0  # leases lost before this one: somebody else may have begun

    def renew(self) -> None:
        """Extend the lease from now. Raises LeaseLost."""
        with self.db.write(serial=False, durable=False) as tx:
            done = tx.execute(update(jobs).where(self._mine()).values(lease_until=self.db.now() + self.lease_seconds))
            if done.rowcount != 1:
                raise self._lost()

    def check(self) -> None:
        """Raise LeaseLost unless the job is still ours and its time, by a clock to be trusted, not over."""
        with self.db.read() as connection:
            until = connection.execute(select(jobs.c.lease_until).where(self._mine())).scalar()
        if until is None or (until <= self.db.now() and self.db.steady(LEASE_SECONDS)):
            raise self._lost()

    def guard(self, tx: Connection) -> None:
        """Raise LeaseLost unless the job is still ours, and hold it until `tx` ends."""
        query = select(jobs.c.id).where(self._mine()).with_for_update()
        if tx.execute(query).first() is None:
            raise self._lost()

    def _mine(self) -> ColumnElement[bool]:
        mine = and_(jobs.c.token == self.token, jobs.c.owner == self.owner)
        return and_(jobs.c.id == self.job_id, jobs.c.status == JobStatus.RUNNING, mine)

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.owner} lost job {self.job_id} ({self.kind} {self.ref}, token {self.token})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A job whose lease ran out, and what became of it: queued again, or dead."""

    job_id: int
    kind: str
    ref: int
    owner: str
    status: JobStatus


def enqueue(
    tx: Connection,
    *,
    kind: str,
    ref: int,
    run_id: int | None = None,
    scope: str = "",
    lock: str | None = None,
    priority: int = 0,
    labels: Iterable[str] = (),
    run_at: float | None = None,
) -> int:
    """Put a job into the queue in the caller's transaction; return its id.

    There is one job per (kind, ref): a done or dead one is queued again, a queued one takes the earlier
    `run_at`, and a running one will be queued again when it is finished, so no wake-up is lost.
    """
    now = moment(tx)
    due = now if run_at is None else run_at
    wanted = {"run_id": run_id, "scope": scope, "lock": lock, "priority": priority, "labels": sorted(set(labels))}
    query = select(jobs.c.id, jobs.c.status, jobs.c.run_at).where(jobs.c.kind == kind, jobs.c.ref == ref)
    row = tx.execute(query.with_for_update()).first()
    if row is None:
        fresh = {"kind": kind, "ref": ref, "status": JobStatus.QUEUED, "run_at": due, "created_at": now}
        return inserted(tx, jobs, {**fresh, **wanted})
    if row.status == JobStatus.RUNNING:
        values: dict[str, object] = {"again_at": due}
    elif row.status == JobStatus.QUEUED:
        values = {**wanted, "run_at": min(row.run_at, due)}
    else:
        values = {**wanted, "status": JobStatus.QUEUED, "run_at": due, "losses": 0, "finished_at": None, "owner": None}
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
    return int(row.id)


def claim(
    db: Database,
    *,
    owner: str,
    scope: str = "",
    labels: Iterable[str] = (),
    kinds: Sequence[str] = (),
    lease_seconds: float = LEASE_SECONDS,
) -> Lease | None:
    """Take the oldest free job of the scope whose labels are all ours, or return None.

    Two workers never get the same job, nor two jobs with one lock at the same time.
    """
    offered = frozenset(labels)
    after: tuple[int, int] | None = None
    while True:
        with db.read() as connection:
            rows = connection.execute(_candidates(db.now(), scope, kinds, after)).all()
        for row in rows:
            if offered.issuperset(row.labels):
                lease = _take(db, row.id, owner, lease_seconds)
                if lease:
                    return lease
        if len(rows) < BATCH:
            return None
        after = (rows[-1].priority, rows[-1].id)


def _candidates(now: float, scope: str, kinds: Sequence[str], after: tuple[int, int] | None):  # type: ignore[no-untyped-def]
    query = (
        select(jobs.c.id, jobs.c.priority, jobs.c.labels)
        .where(jobs.c.status == JobStatus.QUEUED, jobs.c.scope == scope, jobs.c.run_at <= now, _lock_is_free())
        .order_by(jobs.c.priority.desc(), jobs.c.id)
        .limit(BATCH)
    )
    if kinds:
        query = query.where(jobs.c.kind.in_(kinds))
    if after:
        priority, last = after
        query = query.where(or_(jobs.c.priority < priority, and_(jobs.c.priority == priority, jobs.c.id > last)))
    return query


def _lock_is_free() -> ColumnElement[bool]:
    other = jobs.alias("other")
    taken = exists().where(other.c.lock == jobs.c.lock, other.c.status == JobStatus.RUNNING)
    return or_(jobs.c.lock.is_(None), ~taken)


def _take(db: Database, job_id: int, owner: str, lease_seconds: float) -> Lease | None:
    """Make one queued job ours, or return None when somebody was quicker or its lock is held."""
    now = db.now()
    free = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED, _lock_is_free())
    change = (
        update(jobs)
        .where(jobs.c.id.in_(free.with_for_update(skip_locked=True, of=jobs)))
        .values(status=JobStatus.RUNNING, owner=owner, token=jobs.c.token + 1, lease_until=now + lease_seconds)
        .returning(jobs.c.kind, jobs.c.ref, jobs.c.run_id, jobs.c.token, jobs.c.losses)
    )
    try:
        with db.write(serial=False, durable=False) as tx:  # beginning the job makes it durable
            row = tx.execute(change).first()
    except exc.IntegrityError:  # two took jobs of one lock at the same instant: the index let one through
        return None
    if row is None:
        return None
    return Lease(
        job_id=job_id,
        kind=row.kind,
        ref=row.ref,
        run_id=row.run_id,
        token=row.token,
        losses=row.losses,
        owner=owner,
        db=db,
        lease_seconds=lease_seconds,
    )


def finish(tx: Connection, lease: Lease) -> None:
    """End the job in the caller's transaction. Raises LeaseLost."""
    lease.guard(tx)
    again = tx.execute(select(jobs.c.again_at).where(jobs.c.id == lease.job_id)).scalar()
    if again is None:
        values: dict[str, object] = {"status": JobStatus.DONE, "finished_at": lease.db.now()}
    else:
        values = {"status": JobStatus.QUEUED, "run_at": again, "again_at": None, "losses": 0}
    tx.execute(update(jobs).where(jobs.c.id == lease.job_id).values(lease_until=None, owner=None, **values))


def give_back(tx: Connection, lease: Lease, *, run_at: float | None = None) -> None:
    """Queue the job again, from `run_at` on, without counting a loss. Raises LeaseLost."""
    lease.guard(tx)
    due = lease.db.now() if run_at is None else run_at
    again = tx.execute(select(jobs.c.again_at).where(jobs.c.id == lease.job_id)).scalar()
    values = {"run_at": due if again is None else min(again, due), "again_at": None, "losses": 0}
    change = update(jobs).where(jobs.c.id == lease.job_id)
    tx.execute(change.values(status=JobStatus.QUEUED, lease_until=None, owner=None, **values))


def withdraw(tx: Connection, *, kind: str, ref: int) -> bool:
    """End a job that nobody should do any more; who has its lease loses it. Tell whether there was one."""
    open_ = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
    change = update(jobs).where(jobs.c.kind == kind, jobs.c.ref == ref, open_)
    values = {"status": JobStatus.DONE, "finished_at": moment(tx), "lease_until": None, "owner": None, "again_at": None}
    return tx.execute(change.values(**values)).rowcount > 0


def wake(tx: Connection, *, kind: str, ref: int) -> bool:
    """Let an existing job be done now, whatever it waits for; tell whether there is one."""
    row = tx.execute(select(jobs.c.id, jobs.c.status).where(jobs.c.kind == kind, jobs.c.ref == ref)).first()
    if row is None:
        return False
    now = moment(tx)
    values: dict[str, object] = {"status": JobStatus.QUEUED, "run_at": now, "losses": 0, "finished_at": None}
    if row.status == JobStatus.RUNNING:
        values = {"again_at": now}
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
    return True


def abandon(db: Database, lease: Lease, *, after_seconds: float = 0.0) -> None:
    """Let the lease run out then: for a job that broke its worker, so that it counts as lost. Raises LeaseLost."""
    with db.write() as tx:
        lease.guard(tx)
        tx.execute(update(jobs).where(jobs.c.id == lease.job_id).values(lease_until=moment(tx) + after_seconds))


def overdue(tx: Connection) -> list[Reaped]:
    """Take the jobs back whose lease has run out, in the caller's transaction: queued again, or dead.

    The caller decides what a dead job means for what it was about; `runs.reap` does for stages.
    """
    now = moment(tx)
    running = jobs.c.status == JobStatus.RUNNING
    absurd = update(jobs).where(running, jobs.c.lease_until > now + LONGEST_SECONDS)
    tx.execute(absurd.values(lease_until=now + LEASE_SECONDS))
    late = select(jobs).where(running, jobs.c.lease_until <= now).with_for_update()
    return [_reclaim(tx, row) for row in tx.execute(late).all()]


def take_over(tx: Connection, dead: str, scope: str) -> int:
    """Make the jobs of a dead process's scope this scope's, to be claimed at once; return how many.

    No loss is counted: a person asked for it, so it can not go round for ever.
    """
    open_ = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
    values = {"scope": scope, "status": JobStatus.QUEUED, "owner": None, "lease_until": None}
    return tx.execute(update(jobs).where(jobs.c.scope == dead, open_).values(**values)).rowcount


def _reclaim(tx: Connection, row) -> Reaped:  # type: ignore[no-untyped-def]
    dead = row.losses + 1 >= LOSSES
    status = JobStatus.DEAD if dead else JobStatus.QUEUED
    values = {"status": status, "losses": row.losses + 1, "lease_until": None, "owner": None}
    if dead:
        values["finished_at"] = moment(tx)
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
    return Reaped(job_id=row.id, kind=row.kind, ref=row.ref, owner=row.owner or "", status=status)


def scopes(db: Database) -> list[str]:
    """Return the local scopes that still have jobs to do; the caller asks which of their processes live."""
    query = select(jobs.c.scope).where(jobs.c.scope != "", jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]))
    with db.read() as connection:
        return sorted(connection.execute(query.distinct()).scalars())


def pending(db: Database, *, scope: str = "") -> int:
    """Return how many jobs of a scope wait or run."""
    from sqlalchemy import func

    open_ = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
    with db.read() as connection:
        return int(
            connection.execute(select(func.count()).select_from(jobs).where(jobs.c.scope == scope, open_)).scalar_one()
        )


def next_due(db: Database, *, scope: str = "") -> float | None:
    """Return when the earliest queued job of a scope is due, or None: how long a worker may wait for the bell."""
    from sqlalchemy import func

    query = select(func.min(jobs.c.run_at)).where(jobs.c.status == JobStatus.QUEUED, jobs.c.scope == scope)
    with db.read() as connection:
        return connection.execute(query).scalar()
