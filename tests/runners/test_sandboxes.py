"""Sandboxes: made ahead, one attempt at a time, closed to each other, open to the outside, and gone afterwards."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline import settings
from pipeline.errors import Unavailable
from runners import sandboxes
from runners.engines import ContainerSpec
from runners.engines.docker import DockerEngine
from runners.engines.dummy import DummyEngine
from runners.engines.dummy_world import Process, World
from runners.sandboxes import LABEL, Sandboxes

IMAGE = "pipewright/debian:12"


def over(engine, owner="me", alive=lambda owner: True, installation="0123456789"):
    return Sandboxes(engine, installation=installation, image=IMAGE, owner=owner, alive=alive)


@pytest.fixture
def world() -> World:
    return World(images={IMAGE: Process.forever})


def test_one_that_was_made_ahead_is_taken_and_used_again(world):
    boxes = over(DummyEngine(world))
    boxes.ahead()
    first = boxes.take()
    boxes.give_back(first)
    assert boxes.take() == first
    assert world.starts == [first]


def test_one_that_is_gone_meanwhile_is_not_used(world, monkeypatch):
    monkeypatch.setattr(sandboxes, "LOOK_AFTER_SECONDS", 0.0)
    engine = DummyEngine(world)
    boxes = over(engine)
    first = boxes.take()
    boxes.give_back(first)
    assert boxes.take() == first
    boxes.give_back(first)
    engine.remove(first)
    assert boxes.take() != first


def test_two_attempts_at_once_get_two(world):
    boxes = over(DummyEngine(world))
    assert len({boxes.take(), boxes.take()}) == 2


def test_one_that_is_given_back_twice_is_there_once(world):
    boxes = over(DummyEngine(world))
    first = boxes.take()
    boxes.give_back(first)
    boxes.give_back(first)
    assert boxes.take() == first
    assert boxes.take() != first


def test_closing_ends_all_of_them(world):
    boxes = over(DummyEngine(world))
    boxes.ahead()
    boxes.take()
    boxes.take()
    boxes.close()
    with world.changed:
        assert world.changed.wait_for(lambda: not world.boxes, 10)


def test_what_dead_workers_left_is_ended_unless_an_attempt_still_runs_in_it(world):
    engine = DummyEngine(world)
    dead = over(engine, owner="dead")
    idle, busy = dead.take(), dead.take()
    inside = {LABEL: busy, "pipewright.role": "stage"}
    engine.create(ContainerSpec(name="stage", image=IMAGE, labels=inside))
    engine.start("stage")
    mine = over(engine, owner="me", alive=lambda owner: owner == "me")
    name = mine.take()
    mine.sweep()
    with world.changed:
        assert world.changed.wait_for(lambda: idle not in world.boxes, 10)
    assert {busy, name} <= set(world.boxes)
    mine.adopt(busy)
    mine.give_back(busy)
    with world.changed:
        assert world.changed.wait_for(lambda: busy not in world.boxes, 10)


def test_an_image_that_is_not_there_is_met_by_whoever_takes_one():
    boxes = over(DummyEngine(World()))
    boxes.ahead()
    with pytest.raises(Unavailable, match="no image"):
        boxes.take()
    boxes.close()


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    made = DockerEngine(settings.load(), f"{uuid.uuid4().hex[:8]}-sandboxes")
    yield made
    for box in made.find({}):
        made.remove(box.id)
    made.remove_network(f"pipe-{made._installation[:8]}-sandbox")
    made.close()


def said(engine: DockerEngine, sandbox: str, script: str) -> tuple[int, str]:
    spec = ContainerSpec(
        name=f"pipe-{uuid.uuid4().hex[:10]}",
        image=IMAGE,
        entrypoint=("bash", "-c"),
        command=(script,),
        network=f"container:{sandbox}",
    )
    engine.create(spec)
    attached = engine.attach(spec.name)
    engine.start(spec.name)
    output = b"".join(data for _, data in attached).decode()
    attached.close()
    ended = engine.wait(spec.name)
    engine.remove(spec.name)
    return ended.code if ended else -1, output.strip()


SERVE = "$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 1); while ($c = $s->accept) { close $c }"
LISTEN = f"perl -MIO::Socket::INET -e '{SERVE}'"


@pytest.mark.docker
def test_sandboxes_do_not_reach_each_other_and_reach_the_outside(engine):
    boxes = over(engine, installation=engine._installation)
    first, second = boxes.take(), boxes.take()
    network = f"pipe-{engine._installation[:8]}-sandbox"
    address = engine.inspect(first).addresses[network]
    listener = ContainerSpec(
        name=f"pipe-{uuid.uuid4().hex[:10]}",
        image=IMAGE,
        entrypoint=("sh", "-c"),
        command=(LISTEN,),
        network=f"container:{first}",
    )
    engine.create(listener)
    engine.start(listener.name)
    retry = (
        "for n in 1 2 3 4 5 6 7 8 9 10; do timeout 2 bash -c 'exec 3<>/dev/tcp/{}' && exit 0; sleep 0.2; done; exit 1"
    )
    assert said(engine, first, retry.format("127.0.0.1/7000"))[0] == 0
    assert said(engine, second, f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/7000'")[0] != 0
    assert said(engine, first, retry.format("127.0.0.1/7000"))[0] == 0
    with socket.create_server((address.rpartition(".")[0] + ".1", 0)) as outside:
        gateway, port = outside.getsockname()
        assert said(engine, second, f"exec 3<>/dev/tcp/{gateway}/{port}")[0] == 0
    assert "nameserver" in said(engine, second, "cat /etc/resolv.conf")[1]
    boxes.close()


@pytest.mark.docker
def test_a_network_that_somebody_removed_is_made_again(engine):
    boxes = over(engine, installation=engine._installation)
    engine.remove(boxes.take())
    engine.remove_network(f"pipe-{engine._installation[:8]}-sandbox")
    assert engine.inspect(boxes.take()).state == "running"
    boxes.close()


@pytest.mark.docker
def test_a_process_of_an_attempt_does_not_outlive_it_in_the_sandbox(engine):
    boxes = over(engine, installation=engine._installation)
    name = boxes.take()
    assert said(engine, name, f"{LISTEN} & sleep 0.2; grep -c 1B58 /proc/net/tcp")[1] == "1"
    boxes.give_back(name)
    assert boxes.take() == name
    assert said(engine, name, "grep -c ':1B58 00000000:0000 0A' /proc/net/tcp || true")[1] == "0"
    boxes.close()


@pytest.mark.docker
def test_a_real_sandbox_goes_away_by_itself(engine):
    boxes = over(engine, installation=engine._installation)
    boxes.ahead()
    boxes.take()
    boxes.close()
    for box in engine.find({"pipewright.role": "sandbox"}):
        with contextlib.suppress(Unavailable):
            assert engine.wait(box.id, timeout_seconds=10)
    again = threading.Event()
    for _ in range(100):
        if not engine.find({"pipewright.role": "sandbox"}):
            break
        again.wait(0.1)
    assert engine.find({"pipewright.role": "sandbox"}) == []


def test_a_pause_container_has_no_rights_at_all():
    from runners.sandboxes import pause

    spec = pause("x", image=IMAGE, network="n", labels={})
    assert (spec.capabilities, spec.ephemeral) == ((), True)
    assert replace(spec, name="y").memory_bytes == 32 << 20
