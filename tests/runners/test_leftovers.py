"""What ended runs left behind is found and removed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import runs, settings
from pipeline.db import Database
from pipeline.model import Event
from runners import leftovers
from runners.engines import ContainerSpec
from runners.engines.dummy import DummyEngine
from runners.engines.dummy_world import World
from tests.test_cli_records import Plan


class House:
    """A record with two runs, the first of which is over, and an engine."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "shop"
        self.settings = settings.load({"PIPE_HOME": str(folder / "home")})
        self.db = Database.open(self.settings)
        self.engine = DummyEngine(World(), self.db.installation)
        self.engine.world.images["x"] = "sha256:x"
        event = Event(kind="push", repository=str(self.project), ref="refs/heads/main", sha="ab" * 20, branch="main")
        self.over = runs.accept(self.db, Plan(event), by="ana").id
        runs.cancel(self.db, self.over, by="ana")
        self.open = runs.accept(self.db, Plan(event), by="ana").id

    def container(self, name: str, **labels: str) -> None:
        named = {f"pipewright.{key}": value for key, value in labels.items()}
        self.engine.create(ContainerSpec(name=name, image="x", labels=named))

    def workspace(self, run: int, installation: str = "") -> Path:
        made = self.project / ".pipe" / f"run-{(installation or self.db.installation)[:8]}-{run}" / "0-1" / "shop"
        made.mkdir(parents=True)
        (made / "file").write_text("x")
        return made

    def found(self) -> list[str]:
        return [Path(one.name).name for one in leftovers.find(self.db, self.engine)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.db.close()


def test_containers_of_ended_runs_are_left_over(house: House) -> None:
    house.container("old", run=str(house.over))
    house.container("busy", run=str(house.open))
    assert house.found() == ["old"]


def test_networks_and_volumes_of_ended_runs_are_left_over_and_come_after_the_containers(house: House) -> None:
    for name, run in (("old", house.over), ("busy", house.open)):
        labels = {"pipewright.run": str(run)}
        house.engine.ensure_network(f"{name}-net", labels=labels)
        house.engine.ensure_volume(f"{name}-secrets", labels=labels)
        house.container(f"{name}-db", run=str(run))
    house.engine.ensure_network("sandboxes", labels={"pipewright.role": "sandboxes"})
    assert house.found() == ["old-db", "old-net", "old-secrets"]
    for one in leftovers.find(house.db, house.engine):
        leftovers.remove(house.settings, house.engine, one)
    assert house.found() == []
    assert set(house.engine.networks({})) == {"busy-net", "sandboxes"}
    assert set(house.engine.volumes({})) == {"busy-secrets"}


def test_what_belongs_to_no_run_is_left_alone(house: House) -> None:
    house.container("live", promotion="1")
    assert house.found() == []


def test_workspaces_of_ended_runs_are_left_over(house: House) -> None:
    house.workspace(house.over)
    house.workspace(house.open)
    house.workspace(house.over, installation="f" * 8)
    assert house.found() == [f"run-{house.db.installation[:8]}-{house.over}"]


def test_a_link_that_looks_like_a_workspace_is_not_followed(house: House, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (house.project / ".pipe").mkdir(parents=True)
    (house.project / ".pipe" / f"run-{house.db.installation[:8]}-{house.over}").symlink_to(precious)
    assert house.found() == []


def test_removing_twice_is_removing_once(house: House) -> None:
    folder = house.workspace(house.over)
    house.container("old", run=str(house.over))
    for _ in range(2):
        for one in [*leftovers.find(house.db, house.engine)]:
            leftovers.remove(house.settings, house.engine, one)
            leftovers.remove(house.settings, house.engine, one)
    assert house.found() == []
    assert not folder.exists()


def test_a_sweep_keeps_the_run_that_may_still_be_looked_at(house: House) -> None:
    looked_at, busy = house.workspace(house.over), house.workspace(house.open)
    leftovers.sweep(house.db, house.settings, house.engine, house.project, keep=house.over)
    assert looked_at.exists()
    leftovers.sweep(house.db, house.settings, house.engine, house.project, keep=0)
    assert not looked_at.exists()
    assert busy.exists()
