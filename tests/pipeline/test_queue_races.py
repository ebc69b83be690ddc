"""The queue under many hands: threads, processes, and processes that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter

from pipeline import queue
from pipeline.db import Database


def put(db, ref, **options):
    with db.write() as tx:
        return queue.enqueue(tx, kind=options.pop("kind", "stage"), ref=ref, **options)


def done(db, lease):
    with db.write() as tx:
        queue.finish(tx, lease)


WORKER = """
import json, sys
from pipeline import queue
from pipeline.db import Database
url, owner, locks = sys.argv[1:]
db = Database.at(url)
print("ready", flush=True)
sys.stdin.readline()
found = []
while True:
    lease = queue.claim(db, owner=owner, labels=["a", "b"])
    if lease is None:
        if queue.pending(db) == 0:
            break
        db.bell.wait(db.bell.count(), timeout=0.02)
        continue
    found.append(lease.ref)
    with db.write() as tx:
        if locks == "locks":
            running = tx.exec_driver_sql("SELECT count(*) FROM jobs WHERE status = 'running' AND lock = 'one'").scalar()
            assert running <= 1, running
        queue.finish(tx, lease)
print(json.dumps(found))
"""


def _race(db_url, processes, locks="none"):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, db_url, f"p{number}", locks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    outs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * processes
    return [json.loads(out) for out in outs]


def test_processes_never_get_the_same_job(db, db_url):
    with db.write() as tx:
        for ref in range(200):
            queue.enqueue(tx, kind="stage", ref=ref, labels=["a"] if ref % 3 else [])
    shares = _race(db_url, 4)
    assert Counter(ref for share in shares for ref in share) == Counter(range(200))


def test_processes_never_hold_one_lock_together(db, db_url):
    with db.write() as tx:
        for ref in range(60):
            queue.enqueue(tx, kind="stage", ref=ref, lock="one" if ref % 2 else None)
    shares = _race(db_url, 4, "locks")
    assert Counter(ref for share in shares for ref in share) == Counter(range(60))


def test_threads_never_get_the_same_job(db):
    with db.write() as tx:
        for ref in range(200):
            queue.enqueue(tx, kind="stage", ref=ref, lock=f"lock {ref % 7}" if ref % 2 else None)
    found, trouble = [], []

    def work(owner):
        try:
            while queue.pending(db):
                lease = queue.claim(db, owner=owner)
                if lease:
                    found.append(lease.ref)
                    done(db, lease)
        except BaseException as error:
            trouble.append(error)
            raise

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    assert Counter(found) == Counter(range(200))


def test_a_killed_process_loses_its_job_to_another_one(db, db_url, clock):
    put(db, 1)
    code = (
        "import os, sys; from pipeline import queue; from pipeline.db import Database\n"
        "queue.claim(Database.at(sys.argv[1]), owner='victim'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, db_url], check=False).returncode == -9
    assert queue.claim(db, owner="heir") is None
    clock.leap(16)
    with db.write() as tx:
        assert [job.owner for job in queue.overdue(tx)] == ["victim"]
    assert queue.claim(db, owner="heir").losses == 1


def test_a_worker_that_waits_for_the_bell_starts_at_once(db):
    other = Database.at(db.url)
    heard = db.bell.wait(db.bell.count(), timeout=0.2)
    put(other, 1)
    db.bell.wait(heard, timeout=20)
    assert queue.claim(db, owner="w").ref == 1
    other.close()
