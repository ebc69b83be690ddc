"""`pipe image save` and `pipe image load` from one installation to another, and `pipe gc` with a budget."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from pipeline import runs, settings
from pipeline.model import Outcome
from runners import process
from runners.stages import push as push_stage
from tests.runners.yard import Yard, yard

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[1]


@pytest.fixture
def here(tmp_path):
    with yard(tmp_path / "here") as made:
        made.write({"Dockerfile": "FROM scratch\nCOPY id /id\n", "id": str(uuid.uuid4())})
        yield made


@pytest.fixture
def there(tmp_path):
    with yard(tmp_path / "there") as made:
        yield made


def pipe(place: Yard, *args: str, **more: str) -> process.Completed:
    env = {"PIPE_HOME": str(place.settings.home), "PIPE_REGISTRY_PORT": str(place.settings.registry_port)}
    env |= {"PYTHONPATH": str(ROOT), **more}
    return process.run([sys.executable, "-m", "pipeline", *args], env=settings.passed_on() | env, cwd=place.project)


def push(place: Yard) -> Outcome:
    image = place.build(scope="elsewhere").image.id
    spec = {"push": {"image": image, "to": "registry.example/shop", "tags": ["v1"]}}
    with place.work({"push": spec}, "push") as work:
        outcome = push_stage.execute(work)
        runs.finish(work.lease, outcome)
    return outcome


def test_an_image_goes_from_one_installation_to_another(here, there, tmp_path):
    digest = push(here).image.digest
    file = str(tmp_path / "shop.tar")
    saved = pipe(here, "image", "save", "--output", file)
    assert (saved.code, saved.text) == (0, f"shop@{digest}"), saved
    refused = pipe(there, "image", "load", file, "--digest", "sha256:" + "0" * 64)
    assert refused.code == 2
    assert "does not hold the image" in refused.err.decode()
    loaded = pipe(there, "image", "load", file, "--digest", digest)
    reference = f"127.0.0.1:{there.settings.registry_port}/shop@{digest}"
    assert (loaded.code, loaded.text) == (0, reference), loaded
    assert there.engine.pull(reference)


def test_a_run_that_pushed_nothing_and_a_file_that_is_none_say_so(here, tmp_path):
    here.build()
    nothing = pipe(here, "image", "save", "1", "--output", str(tmp_path / "x.tar"))
    assert (nothing.code, "run 1 has pushed no image" in nothing.err.decode()) == (2, True)
    (tmp_path / "y.tar").write_text("text")
    broken = pipe(here, "image", "load", str(tmp_path / "y.tar"))
    assert (broken.code, "not a whole archive" in broken.err.decode()) == (2, True)


def test_gc_keeps_images_within_their_budget(here):
    image = here.build().image.id
    with_room = pipe(here, "gc")
    assert with_room.ok, with_room
    assert here.store.id_of(image) == image
    told = pipe(here, "gc", "--dry-run", PIPE_DISK_BUDGET_GB="0")
    assert f"would remove the image {image[:19]}" in told.text
    assert here.store.id_of(image) == image
    assert f"removed the image {image[:19]}" in pipe(here, "gc", PIPE_DISK_BUDGET_GB="0").text
    assert here.store.id_of(image) is None
