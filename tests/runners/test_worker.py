"""A worker outlives what is away for a moment: its own threads never end by an error."""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import replace

import pytest

from pipeline.db import Database
from runners.engines.dummy import DummyEngine
from runners.engines.dummy_world import World
from runners.sandboxes import Sandboxes
from runners.worker import Worker
from tests.runners.theatre import QUICK, Theatre


class Heard(logging.Handler):
    """Rings when a message was logged."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message, self.rang = message, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self.message:
            self.rang.set()


@pytest.fixture
def impatient(settings):
    Database.open(settings).close()
    db = Database.open(settings, busy_seconds=0.1)
    yield db
    db.close()


def test_a_worker_goes_on_after_the_record_refused_it_a_job(impatient, settings, tmp_path):
    spec = {"target": {"dummy": str(tmp_path / "world.json")}, "strategy": {"blue_green": dict(QUICK)}}
    theatre = Theatre(impatient, settings, spec)
    made = theatre.request(theatre.run())
    boxes = Sandboxes(DummyEngine(World()), installation="0123456789", image="x", owner="w", alive=lambda owner: True)
    worker = Worker(replace(theatre.hands, sandboxes=boxes), capacity=2)
    heard = Heard("claim.failed")
    journal = logging.getLogger("runners.worker")
    journal.addHandler(heard)
    holder = sqlite3.connect(settings.home / "pipewright.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    leave = threading.Event()
    thread = threading.Thread(target=worker.work, args=(leave.is_set,))
    thread.start()
    try:
        assert heard.rang.wait(20)
        holder.execute("ROLLBACK")
        while thread.is_alive() and not theatre.get(made).status.final:
            if theatre.get(made).status == "live":
                break
            impatient.bell.wait(impatient.bell.count(), timeout=0.1)
        assert theatre.get(made).status == "live"
    finally:
        holder.close()
        leave.set()
        thread.join()
        journal.removeHandler(heard)
