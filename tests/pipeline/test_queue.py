"""The queue: a job is never given twice, a lost lease changes nothing, no wake-up is lost."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from pipeline import queue
from pipeline.errors import LeaseLost
from pipeline.model import JobStatus
from pipeline.schema import jobs


def put(db, ref, **options):
    with db.write() as tx:
        return queue.enqueue(tx, kind=options.pop("kind", "stage"), ref=ref, **options)


def done(db, lease):
    with db.write() as tx:
        queue.finish(tx, lease)


def statuses(db):
    with db.read() as connection:
        return dict(connection.execute(select(jobs.c.ref, jobs.c.status)).all())


def test_the_oldest_job_comes_first_and_priority_before_age(db):
    for ref, priority in ((1, 0), (2, 0), (3, 5)):
        put(db, ref, priority=priority)
    assert [queue.claim(db, owner="w").ref for _ in range(3)] == [3, 1, 2]
    assert queue.claim(db, owner="w") is None


def test_a_job_that_is_not_due_waits(db, clock):
    put(db, 1, run_at=db.now() + 60)
    assert queue.claim(db, owner="w") is None
    assert queue.next_due(db) == pytest.approx(db.now() + 60, abs=5)
    clock.leap(61)
    assert queue.claim(db, owner="w").ref == 1


def test_a_lease_says_what_it_is_about(db):
    put(db, 7, kind="promotion", run_id=3)
    lease = queue.claim(db, owner="w", lease_seconds=15)
    assert (lease.kind, lease.ref, lease.run_id, lease.token, lease.losses) == ("promotion", 7, 3, 1, 0)


def test_only_jobs_whose_labels_a_worker_has_are_given_to_it(db):
    put(db, 1, labels=["gpu", "linux"])
    put(db, 2, labels=["linux"])
    assert queue.claim(db, owner="w") is None
    assert queue.claim(db, owner="w", labels=["linux"]).ref == 2
    assert queue.claim(db, owner="w", labels=["linux"]) is None
    assert queue.claim(db, owner="w", labels=["arm", "gpu", "linux"]).ref == 1


def test_a_job_behind_many_that_a_worker_can_not_do_is_found(db):
    for ref in range(queue.BATCH * 2 + 3):
        put(db, ref, labels=["gpu"])
    put(db, 1000)
    assert queue.claim(db, owner="w").ref == 1000


def test_a_local_job_is_given_to_its_own_scope_only(db):
    put(db, 1, scope="laptop:42:1")
    assert queue.claim(db, owner="server") is None
    assert queue.claim(db, owner="other", scope="laptop:43:1") is None
    assert queue.scopes(db) == ["laptop:42:1"]
    assert queue.pending(db, scope="laptop:42:1") == 1
    assert queue.claim(db, owner="own", scope="laptop:42:1").ref == 1


def test_jobs_with_one_lock_run_one_after_the_other(db):
    put(db, 1, lock="env:release")
    put(db, 2, lock="env:release")
    put(db, 3, lock="env:test")
    first = queue.claim(db, owner="w")
    assert first.ref == 1
    assert queue.claim(db, owner="w").ref == 3
    assert queue.claim(db, owner="w") is None
    done(db, first)
    assert queue.claim(db, owner="w").ref == 2


def test_kinds_can_be_chosen(db):
    put(db, 1, kind="stage")
    put(db, 2, kind="retire")
    assert queue.claim(db, owner="w", kinds=["retire"]).ref == 2
    assert queue.claim(db, owner="w", kinds=["retire"]) is None


# --- leases ---------------------------------------------------------------------------------------------------------


def test_a_renewed_lease_lives_on_and_a_forgotten_one_is_reaped(db, clock):
    put(db, 1)
    put(db, 2)
    kept, forgotten = queue.claim(db, owner="a"), queue.claim(db, owner="b")
    clock.leap(10)
    kept.renew()
    clock.leap(10)
    with db.write() as tx:
        found = queue.overdue(tx)
    assert [(job.ref, job.owner, job.status) for job in found] == [(2, "b", JobStatus.QUEUED)]
    kept.check()
    for use in (forgotten.renew, forgotten.check):
        with pytest.raises(LeaseLost):
            use()


def test_a_lease_whose_time_ran_out_is_no_right_even_before_it_is_reaped(db, clock):
    put(db, 1)
    lease = queue.claim(db, owner="a")
    lease.check()
    clock.leap(16)
    with pytest.raises(LeaseLost):
        lease.check()


def test_an_old_token_writes_nothing(db, clock):
    put(db, 1)
    zombie = queue.claim(db, owner="a")
    clock.leap(16)
    with db.write() as tx:
        queue.overdue(tx)
    heir = queue.claim(db, owner="b")
    assert heir.token == zombie.token + 1
    assert heir.losses == 1
    for action in (queue.finish, queue.give_back, lambda tx, lease: lease.guard(tx)):
        with pytest.raises(LeaseLost), db.write() as tx:
            action(tx, zombie)
    with pytest.raises(LeaseLost):
        queue.abandon(db, zombie)
    assert statuses(db) == {1: "running"}
    done(db, heir)
    assert statuses(db) == {1: "done"}


def test_a_job_that_kills_its_workers_is_dead_after_the_third(db, clock):
    put(db, 1)
    ends = []
    for _ in range(3):
        assert queue.claim(db, owner="w")
        clock.leap(16)
        with db.write() as tx:
            ends += [job.status for job in queue.overdue(tx)]
    assert ends == ["queued", "queued", "dead"]
    assert queue.claim(db, owner="w") is None


def test_an_abandoned_job_counts_as_lost(db):
    put(db, 1)
    lease = queue.claim(db, owner="w")
    queue.abandon(db, lease)
    with db.write() as tx:
        assert [job.status for job in queue.overdue(tx)] == ["queued"]
    assert queue.claim(db, owner="w").losses == 1


def test_a_job_given_back_is_done_later_without_counting_a_loss(db, clock):
    put(db, 1)
    lease = queue.claim(db, owner="w")
    with db.write() as tx:
        queue.give_back(tx, lease, run_at=db.now() + 60)
    assert queue.claim(db, owner="w") is None
    clock.leap(61)
    assert queue.claim(db, owner="w").losses == 0


def test_a_withdrawn_job_is_lost_to_whoever_has_it(db):
    put(db, 1)
    lease = queue.claim(db, owner="w")
    with db.write() as tx:
        assert queue.withdraw(tx, kind="stage", ref=1)
        assert not queue.withdraw(tx, kind="stage", ref=1)
    with pytest.raises(LeaseLost):
        lease.renew()


def test_a_dead_processes_jobs_can_be_taken_over(db):
    put(db, 1, scope="laptop:42:1")
    put(db, 2, scope="laptop:42:1")
    zombie = queue.claim(db, owner="old", scope="laptop:42:1")
    with db.write() as tx:
        assert queue.take_over(tx, "laptop:42:1", "laptop:99:5") == 2
    with pytest.raises(LeaseLost):
        zombie.check()
    taken = [queue.claim(db, owner="new", scope="laptop:99:5") for _ in range(2)]
    assert [lease.ref for lease in taken] == [1, 2]
    assert taken[0].losses == 0


# --- enqueue again --------------------------------------------------------------------------------------------------


def test_a_job_is_queued_once_and_takes_the_earlier_time(db):
    later = put(db, 1, run_at=db.now() + 60)
    assert put(db, 1) == later
    assert queue.claim(db, owner="w").ref == 1
    assert queue.claim(db, owner="w") is None


def test_a_done_job_can_be_queued_again_with_a_new_token(db):
    put(db, 1)
    first = queue.claim(db, owner="w")
    done(db, first)
    put(db, 1)
    assert queue.claim(db, owner="w").token == first.token + 1


def test_a_wake_up_while_a_job_runs_is_not_lost(db):
    put(db, 1)
    first = queue.claim(db, owner="w")
    put(db, 1)
    assert queue.claim(db, owner="x") is None
    done(db, first)
    again = queue.claim(db, owner="x")
    done(db, again)
    assert queue.claim(db, owner="x") is None


def test_a_wake_up_keeps_the_lock_and_shortens_the_wait(db):
    put(db, 1, lock="env:release", run_at=db.now() + 600)
    put(db, 2, lock="env:release")
    with db.write() as tx:
        assert queue.wake(tx, kind="stage", ref=1)
        assert not queue.wake(tx, kind="stage", ref=99)
    assert queue.claim(db, owner="w").ref == 1
    assert queue.claim(db, owner="w") is None


def test_enqueuing_belongs_to_the_callers_transaction(db):
    with pytest.raises(ZeroDivisionError), db.write() as tx:  # noqa: PT012
        queue.enqueue(tx, kind="stage", ref=1)
        raise ZeroDivisionError
    assert queue.claim(db, owner="w") is None


def test_a_job_that_broke_its_worker_can_be_left_alone_for_a_while(db, clock):
    put(db, 1)
    queue.abandon(db, queue.claim(db, owner="w"), after_seconds=4.0)
    with db.write() as tx:
        assert queue.overdue(tx) == []
    clock.leap(4.1)
    with db.write() as tx:
        assert [job.status for job in queue.overdue(tx)] == ["queued"]
