"""What every Target must do, run on the dummy and on a real Docker Engine, so that the dummy can not lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import DefinitionError, StageFailed
from pipeline.model import Colour
from runners.targets import Check
from tests.runners.swap_stand import Stand, docker_stand, dummy_stand, eventually, get


@pytest.fixture(params=["dummy", pytest.param("docker", marks=pytest.mark.docker)])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    with (docker_stand if request.param == "docker" else dummy_stand)(tmp_path) as made:
        yield made


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Stand]:
    with docker_stand(tmp_path) as made:
        yield made


def up(stand: Stand, colour: Colour = Colour.BLUE, promotion: int = 1, epoch: int = 1, **more: object) -> None:
    release = stand.release(run=promotion, **more)
    stand.target.prepare(stand.place, release, {})
    stand.target.up(stand.place, release, colour, promotion, epoch, {})


def seen(stand: Stand) -> set[tuple[str, int, str, int]]:
    return {(i.process, i.replica, str(i.colour), i.promotion) for i in stand.target.observe(stand.place)}


def test_a_colour_runs_what_the_release_says(stand: Stand) -> None:
    up(stand, promotion=7, epoch=3, web={"replicas": 2})
    assert seen(stand) == {("web", 1, "blue", 7), ("web", 2, "blue", 7)}
    assert {(i.state, i.epoch, i.config_hash) for i in stand.target.observe(stand.place)} == {
        ("running", 3, "config-7")
    }


def test_the_addresses_are_known_before_and_are_the_ones_that_run(stand: Stand) -> None:
    release = stand.release(web={"replicas": 2})
    before = {server.address for server in stand.target.servers(stand.place, release, Colour.GREEN)}
    up(stand, Colour.GREEN, web={"replicas": 2})
    assert {instance.address for instance in stand.target.observe(stand.place)} == before


def test_the_two_colours_never_share_an_address(stand: Stand) -> None:
    release = stand.release(web={"replicas": 24})
    addresses = [s.address for colour in Colour for s in stand.target.servers(stand.place, release, colour)]
    assert len(set(addresses)) == 48


def test_more_replicas_than_places_are_refused(stand: Stand) -> None:
    with pytest.raises(DefinitionError, match="more than 24 replicas"):
        stand.target.servers(stand.place, stand.release(web={"replicas": 25}), Colour.BLUE)


def test_bringing_a_colour_up_again_starts_nothing_twice(stand: Stand) -> None:
    up(stand, promotion=7)
    before = seen(stand)
    up(stand, promotion=7, epoch=2)
    assert seen(stand) == before
    assert {i.epoch for i in stand.target.observe(stand.place)} == {1}


def test_a_colour_of_another_promotion_is_replaced(stand: Stand) -> None:
    up(stand, promotion=7, web={"replicas": 2})
    up(stand, promotion=8)
    assert seen(stand) == {("web", 1, "blue", 8)}


def test_the_other_colour_is_left_alone(stand: Stand) -> None:
    up(stand, Colour.BLUE, promotion=7)
    up(stand, Colour.GREEN, promotion=8)
    stand.target.retire(stand.place, Colour.BLUE, grace_seconds=1)
    assert seen(stand) == {("web", 1, "green", 8)}


def test_retiring_twice_is_no_error(stand: Stand) -> None:
    up(stand)
    stand.target.retire(stand.place, Colour.BLUE, grace_seconds=1)
    stand.target.retire(stand.place, Colour.BLUE, grace_seconds=1)
    assert seen(stand) == set()


def test_a_process_that_must_not_run_twice_is_started_only_when_asked(stand: Stand) -> None:
    work = {"worker": {"command": ["sleep", "600"], "swap": "stop_then_start"}}
    release = stand.release(processes=work)
    up(stand, processes=work)
    assert seen(stand) == {("web", 1, "blue", 1)}
    stand.target.start_single(stand.place, release, Colour.BLUE, 1, 1, {})
    assert seen(stand) == {("web", 1, "blue", 1), ("worker", 1, "blue", 1)}
    stand.target.up(stand.place, release, Colour.BLUE, 1, 1, {})
    assert ("worker", 1, "blue", 1) in seen(stand)
    stand.target.stop_single(stand.place, release, Colour.BLUE)
    assert seen(stand) == {("web", 1, "blue", 1)}


def test_the_before_hook_runs_once_per_promotion(stand: Stand) -> None:
    release = stand.release(before={"process": "web", "run": "date +%s%N"})
    stand.target.prepare(stand.place, release, {})
    first = stand.target.run_before(stand.place, release, 7, {})
    assert stand.target.run_before(stand.place, release, 7, {}) == first
    stand.target.forget_before(stand.place, 7)
    stand.target.forget_before(stand.place, 7)


def test_a_before_hook_that_fails_says_so_every_time_and_is_not_run_again(stand: Stand) -> None:
    release = stand.release(behaviour="hook-fails", before={"process": "web", "run": "date +%s%N; exit 1"})
    stand.target.prepare(stand.place, release, {})
    said = set()
    for _ in range(2):
        with pytest.raises(StageFailed, match="ended with 1") as failure:
            stand.target.run_before(stand.place, release, 7, {})
        said.add(failure.value.message)
    assert len(said) == 1


def test_a_check_reports_its_exit_code_and_output(stand: Stand) -> None:
    stand.target.prepare(stand.place, stand.release(), {})
    output: list[bytes] = []
    image = stand.release().images["web"]
    good = Check(promotion=7, image=image, commands=("echo hello",))
    bad = Check(promotion=7, image=image, commands=("echo bad", "exit 1"))
    assert stand.target.run_check(stand.place, good, output.append) == 0
    assert b"hello" in b"".join(output)
    assert stand.target.run_check(stand.place, bad, output.append) == 1


def test_clearing_leaves_nothing_and_may_be_repeated(stand: Stand) -> None:
    up(stand)
    stand.target.clear(stand.place)
    stand.target.clear(stand.place)
    assert seen(stand) == set()


@pytest.mark.docker
def test_a_process_knows_run_commit_colour_and_environment(docker: Stand) -> None:
    docker.serve(docker.release(run=12), Colour.GREEN, promotion=1)
    docker.router.point(docker.route, Colour.GREEN, epoch=1, warm=None)
    names = ("PIPE_RUN", "PIPE_COMMIT", "PIPE_COLOUR", "PIPE_ENVIRONMENT", "PIPE_APPLICATION")
    answers = {name: get(docker.route.port, f"/env/{name}")[1] for name in names}
    assert list(answers.values()) == ["12", f"{12:040x}", "green", "test", "hello"]


@pytest.mark.docker
def test_a_secret_is_a_file_that_outlives_a_restart_of_its_container(docker: Stand) -> None:
    release = docker.release(web={"secrets": [{"name": "TOKEN"}, {"name": "KEY", "as": "env"}]})
    docker.target.prepare(docker.place, release, {})
    values = {"TOKEN": "s3cret", "KEY": "in-env"}
    docker.target.up(docker.place, release, Colour.BLUE, 1, 1, values)
    assert docker.engine
    container = docker.engine.find({"pipewright.role": "app"})[0]

    def read(path: str) -> str:
        return docker.engine.execute(container.id, ("sh", "-c", f"cat {path}; stat -f -c %T {path}"))[1].decode()  # type: ignore[union-attr]

    assert read("/run/secrets/TOKEN") == "s3crettmpfs\n"
    docker.engine.execute(container.id, ("sh", "-c", "kill -9 -1"))
    eventually(lambda: docker.engine.inspect(container.id).restarts == 1, "it was not started again")  # type: ignore[union-attr]
    eventually(lambda: docker.engine.inspect(container.id).state == "running", "it is not running")  # type: ignore[union-attr]
    assert read("/run/secrets/TOKEN") == "s3crettmpfs\n"
    assert docker.engine.execute(container.id, ("printenv", "KEY"))[1] == b"in-env\n"
    docker.target.retire(docker.place, Colour.BLUE, grace_seconds=1)


@pytest.mark.docker
def test_a_secret_that_is_missing_is_named_before_anything_starts(docker: Stand) -> None:
    release = docker.release(web={"secrets": [{"name": "TOKEN"}]})
    docker.target.prepare(docker.place, release, {})
    with pytest.raises(StageFailed, match="has no secret TOKEN"):
        docker.target.up(docker.place, release, Colour.BLUE, 1, 1, {})
    assert seen(docker) == set()


@pytest.mark.docker
def test_an_accessory_keeps_its_volume_and_address_over_a_change(docker: Stand) -> None:
    def store(env: dict[str, str]) -> dict[str, dict[str, object]]:
        run = "test -f /data/made || date +%s%N > /data/made; exec python3 -m http.server 9000 -d /data"
        ready = {"http": ":9000/made", "timeout": 20.0, "interval": 0.1}
        command = ["sh", "-c", run]
        return {
            "store": {
                "image": "pipewright/python:3.11",
                "command": command,
                "volume": ["data:/data"],
                "env": env,
                "ready": ready,
            }
        }

    def made() -> tuple[str, str]:
        assert docker.engine
        there = docker.engine.find({"pipewright.role": "accessory"})[0]
        return docker.engine.execute(there.id, ("cat", "/data/made"))[1].decode(), next(iter(there.addresses.values()))

    docker.target.prepare(docker.place, docker.release(accessories=store({})), {})
    first = made()
    docker.target.prepare(docker.place, docker.release(accessories=store({"LEVEL": "2"})), {})
    assert made() == first


@pytest.mark.docker
def test_an_accessory_that_is_never_ready_says_what_it_printed(docker: Stand) -> None:
    ready = {"port": 9000, "timeout": 0.5, "interval": 0.1}
    store = {"image": "pipewright/debian:12", "command": ["sh", "-c", "echo no disk; sleep 600"], "ready": ready}
    with pytest.raises(StageFailed, match="no disk"):
        docker.target.prepare(docker.place, docker.release(accessories={"store": store}), {})


@pytest.mark.docker
def test_nothing_of_another_installation_is_touched(docker: Stand, tmp_path: Path) -> None:
    with docker_stand(tmp_path / "other") as other:
        up(docker)
        up(other)
        other.target.clear(other.place)
        assert seen(docker) == {("web", 1, "blue", 1)}
