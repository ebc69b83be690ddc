"""The machine on a real engine behind a real HAProxy: what only they can show."""

from __future__ import annotations

import dataclasses
import json
import threading
import time

import pytest

from pipeline import logs, promotions, rollbacks, runs
from runners import mending, retirement
from runners.engines.docker import DockerEngine
from runners.targets.secret_files import SecretFiles
from tests.runners.swap_stand import SERVER, eventually, free_ports, free_subnet, get, kill_process, sweep
from tests.runners.theatre import Theatre

pytestmark = pytest.mark.docker


@pytest.fixture
def theatre(sqlite_db, settings):
    first, last = free_ports(2)
    settings = dataclasses.replace(settings, subnets=free_subnet(), public_ports=f"{first}-{last}")
    engine = DockerEngine(settings, sqlite_db.installation)
    web = {
        "port": 8000,
        "command": ["python3", "-c", SERVER],
        "health": {"http": "/healthz", "interval": 0.2, "timeout": 20.0},
    }
    strategy = {"blue_green": {"bake": 0.5, "drain": 5.0, "keep_old": 600.0}}
    made = Theatre(
        sqlite_db, settings, {"strategy": strategy}, engine=engine, app={"processes": {"web": web}}, real=True
    )
    yield made
    sweep(engine, sqlite_db.installation)
    engine.close()


def told(theatre, made):
    attempt = runs.attempts(theatre.db, made.stage_id)[-1]
    return "\n".join(line.text for line in logs.read(theatre.settings, attempt.id))


def objects(theatre):
    """Return the names of everything of this installation that exists."""
    with theatre.engine._daemon.asked("looking") as client:
        wish = {"label": [f"pipewright.installation={theatre.db.installation}"]}
        found = [c["Names"][0] for c in client.containers(all=True, filters=wish)]
        return found + [n["Name"] for n in client.networks(filters=wish)]


def test_blue_then_green_then_back_in_under_a_second(theatre):
    first = theatre.promote()
    port = theatre.standing.port
    assert get(port) == (200, f"blue {first.run_id}")
    second = theatre.promote()
    assert get(port) == (200, f"green {second.run_id}")
    assert get(theatre.standing.preview_port) == (200, f"blue {first.run_id}")
    began = time.monotonic()
    rollbacks.request(theatre.db, theatre.standing, by="eve", reason="it is wrong")
    theatre.work()
    assert time.monotonic() - began < 1.0
    assert get(port) == (200, f"blue {first.run_id}")
    theatre.is_consistent()


def test_a_health_path_that_is_not_there_is_told_with_the_status_and_the_last_lines(theatre):
    theatre.app["processes"]["web"]["health"] = {"http": "/nowhere", "interval": 0.2, "timeout": 1.5, "status": 204}
    bad = theatre.promote(expect="failed")
    assert theatre.stage(bad).status == "failed"
    assert "GET /nowhere at 198.18." in bad.error
    assert "status 200" in bad.error
    assert "listening ok" in bad.error
    assert "health: {http: …}" in bad.error
    assert objects(theatre) == []
    assert not (theatre.settings.proxy / "maps" / "shop.test.map").exists()


def test_a_release_that_can_not_start_says_what_it_printed(theatre):
    theatre.promote()
    bad = theatre.promote("dies", expect="failed")
    assert bad.status == "failed"
    assert "this release can not start" in bad.error
    assert theatre.routed() == "blue"
    theatre.is_consistent()


def test_a_verify_reaches_the_new_colour_from_inside_the_environment(theatre):
    theatre.promote()
    run = theatre.run()
    look = "import os, urllib.request as u; print('seen', u.urlopen(os.environ['PREVIEW_URL']).read().decode())"
    verify = {"image": "pipewright/python:3.11", "run": [f'python3 -c "{look}"']}
    made = theatre.request(run, verify=verify)
    theatre.work()
    assert theatre.get(made).status == "live"
    assert f"seen green {run.id}" in told(theatre, made)


def test_an_old_colour_goes_when_its_time_has_come(theatre, clock):
    theatre.promote()
    second = theatre.promote()
    clock.leap(700)
    assert retirement.catch_up(theatre.hands) == 1
    assert theatre.there() == {"green": {second.id}}
    theatre.is_consistent()


def test_a_release_that_answers_with_errors_while_it_is_watched_goes_back(theatre):
    theatre.promote()
    over = threading.Event()

    def ask():
        while not over.wait(0.02):
            get(theatre.standing.port)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        theatre.spec["strategy"]["blue_green"]["bake"] = 20.0
        bad = theatre.promote("breaks", expect="rolled_back")
    finally:
        over.set()
        asking.join()
    assert bad.status == "rolled_back"
    assert "answers of green were errors" in bad.error
    assert get(theatre.standing.port)[0] == 200
    theatre.is_consistent()


def test_a_container_that_dies_while_it_is_watched_makes_the_route_go_back(theatre):
    theatre.promote()
    theatre.spec["strategy"]["blue_green"]["bake"] = 30.0
    made = theatre.request(theatre.run())

    def die():
        eventually(lambda: promotions.get(theatre.db, made.id).phase == "baking", "it was not switched")
        container = theatre.engine.find({"pipewright.role": "app", "pipewright.promotion": str(made.id)})[0]
        theatre.engine.execute(container.id, ("sh", "-c", "kill -9 -1"))

    killer = threading.Thread(target=die)
    killer.start()
    theatre.work()
    killer.join()
    assert theatre.get(made).status == "rolled_back"
    theatre.is_consistent()


def test_two_applications_share_one_proxy(theatre):
    theatre.promote()
    maps = sorted(path.name for path in (theatre.settings.proxy / "maps").iterdir())
    assert maps == ["shop.test.map"]
    registry = json.loads((theatre.settings.proxy / "routes.json").read_text())
    assert registry["shop.test"]["route"]["port"] == theatre.standing.port


def test_what_is_live_is_started_again_after_it_was_removed_with_its_proxy_and_secrets(theatre):
    theatre.spec["secrets"] = ["TOKEN"]
    made = theatre.promote()
    port = theatre.standing.port
    assert get(port, "/secret/TOKEN") == (200, "value of TOKEN")
    for container in theatre.engine.find({}):  # as after a reboot with everything gone that is not on disk
        theatre.engine.remove(container.id)
    SecretFiles(theatre.db.installation).remove("shop.test")
    assert mending.look_after(theatre.hands) == 1
    theatre.work(kinds=("retire",))
    eventually(lambda: get(port) == (200, f"blue {made.run_id}"), "it did not come back")
    assert get(port, "/secret/TOKEN") == (200, "value of TOKEN")
    theatre.is_consistent()


def test_a_proxy_that_is_killed_while_a_release_is_watched_is_no_reason_to_go_back(theatre):
    theatre.promote()
    theatre.spec["strategy"]["blue_green"]["bake"] = 3.0
    made = theatre.request(theatre.run())

    def kill():
        eventually(lambda: promotions.get(theatre.db, made.id).phase == "baking", "it was not switched")
        kill_process(theatre.engine, f"pipe-proxy-{theatre.db.installation[:8]}")

    killer = threading.Thread(target=kill)
    killer.start()
    theatre.work()
    killer.join()
    assert theatre.get(made).status == "live", theatre.get(made).error
    assert get(theatre.standing.port) == (200, f"green {made.run_id}")
    theatre.is_consistent()
