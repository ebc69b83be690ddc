"""A worker that dies at every point of a promotion: the next one finds the world as it is, and ends the promotion.

Each point is passed by a process of its own that sends itself SIGKILL there; then another worker comes by. The
invariants are the theatre's: exactly one routed colour, whole and answering, no orphan, the record at its end.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal

import pytest

from pipeline import promotions, queue, rollbacks, runs, swaps
from pipeline.errors import LeaseLost
from pipeline.model import Colour
from runners import retirement
from runners.engines.docker import DockerEngine
from tests.runners.swap_stand import SERVER, free_ports, free_subnet, get, sweep
from tests.runners.theatre import QUICK, Theatre, work_until_death

PROCESSES = multiprocessing.get_context("forkserver")  # forked where nothing but the imports has happened
PROCESSES.set_forkserver_preload(["tests.runners.theatre", "runners.promotion", "runners.switching"])
PHASES = ("locked", "pulling", "before_hook", "creating", "waiting_ready", "verifying", "switching")
POINTS = [f"promotion.{phase}.{when}" for phase in PHASES for when in ("intent", "effect", "observed")]
POINTS += ["target.hook_ran", "target.started_one", "router.file", "router.commit"]
POINTS += ["promotion.baking.watched", "promotion.done.intent", "promotion.done.observed"]
BACK = [f"promotion.rolling_back.{when}" for when in ("intent", "effect", "observed")] + [
    "router.file:2",
    "router.commit:2",
]
FAILS = ["promotion.undone", "promotion.waiting_ready.intent"]
IMPORTANT = [
    "promotion.creating.intent",
    "promotion.creating.effect",
    "promotion.waiting_ready.effect",
    "router.file",
    "router.commit",
    "promotion.switching.effect",
    "promotion.baking.watched",
]
VERIFY = {"image": "sha256:test", "run": ["smoke"]}


@pytest.fixture
def theatre(db, settings, tmp_path):
    spec = {"target": {"dummy": str(tmp_path / "world.json")}, "strategy": {"blue_green": {**QUICK, "bake": 0.05}}}
    made = Theatre(db, settings, spec)
    made.app["before"] = {"process": "web", "run": "migrate"}
    made.app["processes"]["worker"] = {"command": ["work"], "swap": "stop_then_start"}
    made.app["processes"]["web"]["replicas"] = 2
    return made


def die_at(theatre, point, *, real=False):
    """Let a worker process of its own die at a point; tell whether it did."""
    child = PROCESSES.Process(
        target=work_until_death, args=(str(theatre.settings.home), theatre.db.url, point, real), daemon=True
    )
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode == -signal.SIGKILL


def come_back(theatre, clock, *, seconds=130.0):
    """Let the dead worker's lease run out, and another worker do what is left."""
    clock.leap(seconds)
    runs.reap(theatre.db)
    theatre.work()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_anywhere_is_followed_by_one_that_ends_the_promotion(theatre, clock, point):
    first = theatre.request(theatre.run(), verify=VERIFY)
    theatre.work()
    made = theatre.request(theatre.run(), verify=VERIFY)
    assert die_at(theatre, point), f"{point} was not passed"
    come_back(theatre, clock)
    assert theatre.get(made).status == "live"
    assert theatre.stage(made).status == "succeeded"
    assert theatre.get(first).status == "replaced"
    assert theatre.routed() == "green"
    theatre.is_consistent()
    assert theatre.ground.target.world.now()["hooks"] == {}
    hooks = [line for line in theatre.ground.target.world.now()["happened"] if line.startswith("hook")]
    assert hooks == ["hook shop.test/1", "hook shop.test/2"]


@pytest.mark.parametrize(
    "point", ["promotion.locked.effect", "promotion.creating.effect", "router.file", "router.commit"]
)
def test_the_first_release_goes_live_although_its_worker_died(theatre, clock, point):
    made = theatre.request(theatre.run())
    assert die_at(theatre, point)
    come_back(theatre, clock)
    assert (theatre.get(made).status, theatre.routed()) == ("live", "blue")
    theatre.is_consistent()


@pytest.mark.slow
@pytest.mark.parametrize("point", BACK)
def test_a_worker_that_dies_while_it_goes_back_is_followed_by_one_that_arrives(theatre, clock, point):
    theatre.spec["strategy"]["blue_green"]["bake"] = 5.0
    first = theatre.request(theatre.run("ok"), strategy={"blue_green": QUICK})
    theatre.work()
    bad = theatre.request(theatre.run("breaks"))
    assert die_at(theatre, point), f"{point} was not passed"
    come_back(theatre, clock)
    assert theatre.get(bad).status == "rolled_back"
    assert theatre.stage(bad).status == "failed"
    assert (theatre.routed(), theatre.get(first).status) == ("blue", "live")
    theatre.is_consistent()


@pytest.mark.parametrize("point", FAILS)
def test_a_worker_that_dies_while_it_gives_up_leaves_the_live_release_alone(theatre, clock, point):
    first = theatre.promote()
    theatre.app["processes"]["web"]["health"] = {"http": "/healthz", "timeout": 0.2}
    bad = theatre.request(theatre.run("never-ready"))
    assert die_at(theatre, point)
    come_back(theatre, clock)
    assert theatre.get(bad).status == "failed"
    assert theatre.there() == {"blue": {first.id}}
    theatre.is_consistent()


@pytest.mark.parametrize(
    "point", ["router.file", "router.commit", "promotion.switching.effect", "promotion.done.intent"]
)
def test_a_rollback_whose_worker_dies_arrives_all_the_same(theatre, clock, point):
    first, second = theatre.promote(), theatre.promote()
    back = rollbacks.request(theatre.db, theatre.standing, by="eve", reason="it is wrong")
    assert die_at(theatre, point)
    come_back(theatre, clock)
    assert (theatre.get(back).status, theatre.routed()) == ("live", "blue")
    assert [theatre.get(p).status for p in (first, second)] == ["replaced", "rolled_back"]
    theatre.is_consistent()


@pytest.mark.parametrize("point", ["retire.forgotten", "retire.removed"])
def test_an_old_colour_is_removed_although_a_worker_died_over_it(theatre, clock, point):
    theatre.promote()
    second = theatre.promote()
    with theatre.db.write() as tx:
        queue.wake(tx, kind="retire", ref=second.id)
        promotions_over(tx)
    assert die_at(theatre, point)
    clock.leap(700)
    runs.reap(theatre.db)
    retirement.catch_up(theatre.hands)
    assert theatre.there() == {"green": {second.id}}
    theatre.is_consistent()


def promotions_over(tx):
    """Let the warm time be over."""
    from sqlalchemy import update

    from pipeline.schema import environments

    tx.execute(update(environments).values(warm_until=1.0))


@pytest.mark.parametrize("broken", ["containers gone", "file says the new colour", "file says the old colour"])
def test_what_the_dead_worker_left_at_the_switch_is_looked_at_and_not_guessed(theatre, clock, broken):
    theatre.promote()
    made = theatre.request(theatre.run())
    assert die_at(theatre, "router.file")
    with theatre.ground.target.world.changing() as world:
        if broken == "containers gone":
            kept = {n: c for n, c in world["containers"].items() if c["colour"] == "blue"}
            world["containers"] = kept
        if broken == "file says the old colour":
            world["routes"]["shop.test"]["recorded"] = dict(world["routes"]["shop.test"]["running"])
    come_back(theatre, clock)
    if broken == "containers gone":
        assert theatre.get(made).status == "failed"
        assert theatre.routed() == "blue"
    else:
        assert theatre.get(made).status == "live"
        assert theatre.routed() == "green"
    theatre.is_consistent()


def test_a_worker_that_was_stopped_and_wakes_up_later_changes_nothing(theatre, clock, db):
    theatre.promote()
    made = theatre.request(theatre.run())
    lease = queue.claim(db, owner="sleeper", kinds=("promotion",))
    from pipeline import turns

    sleeper, standing = turns.begin(lease)
    clock.leap(130)
    runs.reap(db)
    theatre.work()
    assert theatre.get(made).status == "live"
    with pytest.raises(LeaseLost):
        swaps.intend(lease, sleeper, "creating", {})
    with pytest.raises(LeaseLost):
        theatre.ground.router.point(theatre.ground.route, Colour.BLUE, epoch=sleeper.epoch, warm=None)
    assert standing.live_colour == "blue"
    assert theatre.routed() == "green"


def test_a_promotion_that_kills_its_workers_is_set_aside_for_a_person(theatre, clock, db):
    theatre.promote()
    made = theatre.request(theatre.run())
    for _ in range(queue.LOSSES):
        assert die_at(theatre, "promotion.creating.intent")
        clock.leap(130)
        retirement.buried(theatre.hands, runs.reap(db))
    assert theatre.get(made).status == "needs_attention"
    assert theatre.stage(made).status == "errored"
    assert theatre.standing.paused
    assert theatre.routed() == "blue"


@pytest.fixture
def docker(sqlite_db, settings):
    first, last = free_ports(2)
    settings = dataclasses.replace(settings, subnets=free_subnet(), public_ports=f"{first}-{last}")
    engine = DockerEngine(settings, sqlite_db.installation)
    health = {"http": "/healthz", "interval": 0.2, "timeout": 20.0}
    web = {"port": 8000, "command": ["python3", "-c", SERVER], "health": health, "replicas": 2}
    spec = {"strategy": {"blue_green": {"bake": 0.5, "drain": 2.0, "keep_old": 600.0}}}
    yield Theatre(sqlite_db, settings, spec, engine=engine, app={"processes": {"web": web}}, real=True)
    sweep(engine, sqlite_db.installation)
    engine.close()


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("point", IMPORTANT)
def test_on_a_real_engine_too_a_dead_worker_is_followed_by_one_that_ends_the_promotion(docker, clock, point):
    docker.promote()
    made = docker.request(docker.run())
    assert die_at(docker, point, real=True), f"{point} was not passed"
    assert get(docker.standing.port)[0] == 200
    come_back(docker, clock)
    assert docker.get(made).status == "live", docker.get(made).error
    assert get(docker.standing.port) == (200, f"green {made.run_id}")
    docker.is_consistent()
    assert promotions.get(docker.db, made.id).epoch == docker.standing.epoch
