"""A worker killed at any point of a build or push is taken over: one attempt, one image, one digest."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from pipeline import runs, settings
from pipeline.model import Status
from runners import local_registry, process, repository
from runners.registry import Registry, Repository
from tests.runners.yard import BASE, Plan, Planned, do_next, yard

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path):
    with yard(tmp_path) as made:
        made.write({"Dockerfile": f"FROM {BASE}\nRUN echo {uuid.uuid4()} > /id\n", "id": str(uuid.uuid4())})
        yield made


def die_at(place, point: str) -> None:
    """Let another process do the job and be killed at a point."""
    home, port = str(place.settings.home), str(place.settings.registry_port)
    command = [sys.executable, "-m", "tests.runners.dies_here", point, home, str(place.project), port]
    done = process.run(command, env=settings.passed_on() | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, timeout_seconds=120)
    assert done.code == -9, done


def accept(place, stages) -> int:
    planned = tuple(Planned(n, name, name, next(iter(spec)), spec) for n, (name, spec) in enumerate(stages.items()))
    plan = Plan({"name": "hello", "stages": stages}, planned, repository.event(place.project))
    return runs.accept(place.db, plan, scope="here", by="t").id


def take_over_and_finish(place, run_id: int):
    runs.resume(place.db, run_id, scope="there", alive=lambda scope: False, by="t")
    outcome = do_next(place.db, place.settings, place.engine, place.project, "there")
    stage = runs.stages(place.db, run_id)[0]
    assert (stage.status, len(runs.attempts(place.db, stage.id))) == (Status.SUCCEEDED, 1)
    return outcome


@pytest.mark.parametrize("point", ["build.started", "build.built", "build.recorded"])
def test_a_build_killed_anywhere_is_built_once(place, point):
    run_id = accept(place, {"image": {"build": {}}})
    die_at(place, point)
    outcome = take_over_and_finish(place, run_id)
    ours = place.store.listing({"pipewright.installation": place.db.installation})
    assert [image.id for image in ours] == [outcome.image.id]
    if point != "build.started":
        assert outcome.result["cache"]["hits"] == 2


@pytest.mark.parametrize("point", ["push.uploading", "push.manifest", "push.recorded"])
def test_a_push_killed_anywhere_gives_one_digest(place, point):
    place.write({"Dockerfile": "FROM scratch\nCOPY id /id\n"})
    image = place.build(scope="elsewhere").image.id
    run_id = accept(place, {"push": {"push": {"image": image, "to": "registry.example/shop", "tags": ["v1"]}}})
    die_at(place, point)
    outcome = take_over_and_finish(place, run_id)
    assert outcome.result["uploaded"] == (point == "push.uploading")
    registry = Registry(Repository(local_registry.host(place.settings), "shop"), place.settings)
    assert registry.head("v1") == outcome.image.digest
    assert registry.get("v1").config == image
    registry.close()
