"""Swaps, a rollback and a worker's death while requests keep coming: every one of them is accounted for."""

from __future__ import annotations

import dataclasses
import time

import pytest

from pipeline import rollbacks, runs
from pipeline.model import Colour
from runners.engines.docker import DockerEngine
from runners.routers import Backend
from tests.runners.load import Load
from tests.runners.swap_stand import SERVER, docker_stand, eventually, free_ports, free_subnet, sweep
from tests.runners.test_crash_swap import die_at
from tests.runners.theatre import Theatre

pytestmark = [pytest.mark.docker, pytest.mark.slow]
SWAPS = 4


@pytest.fixture
def theatre(sqlite_db, settings):
    first, last = free_ports(2)
    settings = dataclasses.replace(settings, subnets=free_subnet(), public_ports=f"{first}-{last}")
    engine = DockerEngine(settings, sqlite_db.installation)
    health = {"http": "/healthz", "interval": 0.5, "timeout": 60.0}
    web = {"port": 8000, "command": ["python3", "-c", SERVER], "health": health, "replicas": 2, "stop_grace": 30.0}
    spec = {"strategy": {"blue_green": {"bake": 1.0, "drain": 60.0, "keep_old": 600.0}}}
    yield Theatre(sqlite_db, settings, spec, engine=engine, app={"processes": {"web": web}}, real=True)
    sweep(engine, sqlite_db.installation)
    engine.close()


class Ledger:
    """Every order that any container has taken, read before its container goes."""

    def __init__(self, theatre):
        self.theatre = theatre
        self.taken = {}

    def read(self):
        for container in self.theatre.engine.find({"pipewright.role": "app"}):
            lines = self.theatre.engine.tail(container.id, lines=100_000).decode().splitlines()
            self.taken[container.id] = [line.split()[1] for line in lines if line.startswith("order ")]

    @property
    def orders(self):
        return sorted(order for found in self.taken.values() for order in found)


def test_no_request_fails_over_swaps_a_rollback_and_a_dead_worker(theatre, clock, record_property, capsys):
    ledger = Ledger(theatre)
    theatre.promote()
    with Load(theatre.standing.port) as load:
        for _ in range(SWAPS):
            ledger.read()
            made = theatre.promote()
            expect(load, made)
        ledger.read()
        back = rollbacks.request(theatre.db, theatre.standing, by="eve", reason="it is wrong")
        began = time.monotonic()
        theatre.work()
        took = time.monotonic() - began
        expect(load, back)
        ledger.read()
        made = theatre.request(theatre.run())
        assert die_at(theatre, "router.file", real=True)
        clock.leap(130)
        runs.reap(theatre.db)
        theatre.work()
        assert theatre.get(made).status == "live"
        expect(load, made)
    ledger.read()
    swaps = SWAPS + 2
    with capsys.disabled():
        print(
            f"\n  {load.count} requests ({dict(load.sent)}), {swaps} swaps of which one rollback ({took:.2f} s) and one"
            f" taken over from a dead worker: {len(load.failures)} failed; 95 % bound {3 / load.count:.1e}"
        )
    record_property("requests", load.count)
    assert load.failures == []
    assert ledger.orders == sorted(load.orders), "an order was lost or taken twice"
    theatre.is_consistent()


def expect(load, made):
    """Wait until answers come, and see that all that is asked from now on is answered by this release."""
    answers = thirty_from_now(load)
    assert {answer.split()[-1] for answer in answers} == {str(made.run_id)}


def thirty_from_now(load):
    now = time.monotonic()
    eventually(lambda: len(load.since(now)) >= 30, f"no answers: {load.failures}", seconds=30)
    return load.since(now)


def test_adding_and_removing_other_environments_fails_no_request_of_this_one(tmp_path):
    with docker_stand(tmp_path) as stand:
        stand.serve(stand.release(web={"replicas": 2}), Colour.BLUE, promotion=1)
        stand.serve(stand.release(run=2, web={"replicas": 2}), Colour.GREEN, promotion=2)
        stand.router.take(stand.route, 1)
        stand.router.point(stand.route, Colour.BLUE, epoch=1, warm=None)
        with Load(stand.route.port) as load:
            for number in range(4):
                port, preview = free_ports(2)
                other = dataclasses.replace(stand.route, key=f"other{number}.test", port=port, preview_port=preview)
                stand.router.ensure(other, Colour.BLUE, Backend(servers=()))
                colour = (
                    Colour.GREEN if number % 2 == 0 else Colour.BLUE
                )  # right after a reload, old workers still live
                stand.router.point(stand.route, colour, epoch=1, warm=None)
                assert {answer.split()[0] for answer in thirty_from_now(load)} == {str(colour)}
                if number % 2:
                    stand.router.remove(other)
        assert load.failures == []
        assert load.count > 150
