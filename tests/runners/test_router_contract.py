"""What every Router must do, run on the dummy and on a real HAProxy, so that the dummy can not lie."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from pipeline.errors import DefinitionError, LeaseLost, NeedsAttention, Unavailable
from pipeline.model import Colour
from runners.routers import Backend
from runners.routers.haproxy_files import Recorded, read_map, write_map
from tests.runners.swap_stand import Stand, docker_stand, dummy_stand, eventually, free_ports, get, kill_from_outside

BLUE, GREEN = Colour.BLUE, Colour.GREEN


@pytest.fixture(params=["dummy", pytest.param("docker", marks=pytest.mark.docker)])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    with (docker_stand if request.param == "docker" else dummy_stand)(tmp_path) as made:
        yield made


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Stand]:
    with docker_stand(tmp_path) as made:
        yield made


def both(stand: Stand, *, warm: Colour | None = None) -> None:
    """Bring both colours up; blue is live, in epoch 1."""
    stand.serve(stand.release(run=1), BLUE, promotion=1)
    stand.serve(stand.release(run=2), GREEN, promotion=2)
    stand.router.take(stand.route, 1)
    stand.router.point(stand.route, BLUE, epoch=1, warm=warm)


def where(stand: Stand) -> tuple[Colour | None, Colour | None, bool, bool]:
    found = stand.router.look(stand.route)
    return found.recorded, found.running, found.alive, found.fell_back


def test_nothing_is_live_before_the_first_pointing(stand: Stand) -> None:
    stand.serve(stand.release(), BLUE, promotion=1)
    assert where(stand) == (None, None, True, False)
    assert stand.router.probe(stand.route) is None


def test_pointing_is_recorded_and_running_and_answers(stand: Stand) -> None:
    both(stand)
    assert where(stand) == (BLUE, BLUE, True, False)
    assert stand.router.probe(stand.route) == BLUE
    stand.router.point(stand.route, GREEN, epoch=1, warm=BLUE)
    assert where(stand) == (GREEN, GREEN, True, False)
    assert stand.router.probe(stand.route) == GREEN


def test_pointing_twice_is_the_same(stand: Stand) -> None:
    both(stand)
    for _ in range(3):
        stand.router.point(stand.route, GREEN, epoch=1, warm=BLUE)
    assert where(stand) == (GREEN, GREEN, True, False)


def test_an_old_epoch_is_refused_everywhere(stand: Stand) -> None:
    both(stand)
    stand.router.take(stand.route, 2)
    with pytest.raises(LeaseLost):
        stand.router.point(stand.route, GREEN, epoch=1, warm=None)
    with pytest.raises(LeaseLost):
        stand.router.forget_warm(stand.route, epoch=1)
    with pytest.raises(LeaseLost):
        stand.router.take(stand.route, 1)
    assert where(stand) == (BLUE, BLUE, True, False)
    assert stand.router.look(stand.route).epoch == 2


def test_only_servers_that_pass_their_check_are_up(stand: Stand) -> None:
    stand.serve(stand.release(), BLUE, promotion=1)
    release = stand.release(run=2, behaviour="never-ready")
    servers = tuple(stand.target.servers(stand.place, release, GREEN))
    stand.router.ensure(
        stand.route, GREEN, Backend(servers=servers, health_path="/healthz", health_interval_seconds=0.2)
    )
    stand.target.up(stand.place, release, GREEN, 2, 1, {})
    address = f"{servers[0].address}:8000"
    eventually(lambda: stand.router.traffic(stand.route, GREEN).checks[address] == "status 404", "no check said 404")
    assert stand.router.traffic(stand.route, GREEN).up == frozenset()


def test_a_suspended_colour_counts_as_down_although_it_answers(stand: Stand) -> None:
    both(stand)
    stand.router.suspend(stand.route, GREEN)
    assert stand.router.traffic(stand.route, GREEN).up == frozenset()
    stand.router.examine(stand.route, GREEN)
    eventually(lambda: stand.router.traffic(stand.route, GREEN).up, "it is not examined again")


def test_the_live_colour_can_not_be_suspended(stand: Stand) -> None:
    both(stand)
    with pytest.raises(NeedsAttention):
        stand.router.suspend(stand.route, BLUE)
    assert stand.router.probe(stand.route) == BLUE


def test_a_router_that_died_comes_back_on_the_recorded_colour(stand: Stand) -> None:
    both(stand)
    stand.router.point(stand.route, GREEN, epoch=1, warm=BLUE)
    stand.kill_router()
    assert where(stand) == (GREEN, None, False, False)
    stand.router.wake()
    assert where(stand) == (GREEN, GREEN, True, False)
    eventually(lambda: stand.router.probe(stand.route) == GREEN, "green does not answer")


def test_the_router_falls_back_to_the_warm_colour_and_stays_there(stand: Stand) -> None:
    both(stand)
    stand.router.point(stand.route, GREEN, epoch=1, warm=BLUE)
    stand.kill_colour(GREEN)
    eventually(lambda: stand.router.probe(stand.route) == BLUE, "it did not fall back")
    assert where(stand) == (GREEN, BLUE, True, True)
    stand.serve(stand.release(run=2), GREEN, promotion=2) if stand.real else None
    assert stand.router.probe(stand.route) == BLUE


def test_the_router_does_not_fall_back_to_a_colour_that_is_not_warm(stand: Stand) -> None:
    both(stand)
    stand.router.point(stand.route, GREEN, epoch=1, warm=BLUE)
    stand.router.forget_warm(stand.route, epoch=1)
    stand.kill_colour(GREEN)
    eventually(lambda: not stand.router.traffic(stand.route, GREEN).up, "green is still up")
    assert stand.router.probe(stand.route) is None
    assert where(stand)[1] == GREEN


def test_removing_twice_is_no_error(stand: Stand) -> None:
    both(stand)
    stand.router.remove(stand.route)
    stand.router.remove(stand.route)
    assert stand.router.look(stand.route).recorded is None


@pytest.mark.docker
def test_the_public_port_says_clearly_that_nothing_is_live_yet(docker: Stand) -> None:
    docker.serve(docker.release(), BLUE, promotion=1)
    assert get(docker.route.port) == (503, "Nothing is live yet in hello/test.")
    assert get(docker.route.preview_port) == (200, "blue 1")


@pytest.mark.docker
def test_the_preview_reaches_the_colour_that_is_not_live(docker: Stand) -> None:
    both(docker)
    assert get(docker.route.port) == (200, "blue 1")
    assert get(docker.route.preview_port) == (200, "green 2")
    docker.router.point(docker.route, GREEN, epoch=1, warm=BLUE)
    assert get(docker.route.preview_port) == (200, "blue 1")


@pytest.mark.docker
def test_the_colour_is_told_only_to_a_probe(docker: Stand) -> None:
    both(docker)
    with socket.create_connection(("127.0.0.1", docker.route.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"x-pipe-backend" not in b"".join(iter(lambda: sock.recv(4096), b"")).lower()


@pytest.mark.docker
def test_a_switch_does_not_reload(docker: Stand) -> None:
    from runners.routers.haproxy_socket import workers

    both(docker)
    before = workers(docker.settings.proxy)[0]
    for colour in (GREEN, BLUE, GREEN):
        docker.router.point(docker.route, colour, epoch=1, warm=colour.other)
    assert workers(docker.settings.proxy)[0] == before


@pytest.mark.docker
def test_a_killed_proxy_is_started_again_by_docker_on_the_recorded_colour(docker: Stand) -> None:
    both(docker)
    docker.router.point(docker.route, GREEN, epoch=1, warm=BLUE)
    kill_from_outside(docker, f"pipe-proxy-{docker.place.installation[:8]}")

    def answers() -> bool:
        try:
            return get(docker.route.port) == (200, "green 2")
        except (OSError, HTTPException):  # not there, or killed in the middle of its answer
            return False

    eventually(answers, "it did not come back")


@pytest.mark.docker
def test_a_fall_back_outlives_a_reload_for_another_environment(docker: Stand) -> None:
    both(docker)
    docker.router.point(docker.route, GREEN, epoch=1, warm=BLUE)
    docker.kill_colour(GREEN)
    eventually(lambda: get(docker.route.port) == (200, "blue 1"), "it did not fall back")
    port, preview = free_ports(2)
    other = dataclasses.replace(docker.route, key="other.test", port=port, preview_port=preview, gateway="")
    docker.router.ensure(other, BLUE, Backend(servers=()))
    assert get(docker.route.port) == (200, "blue 1")
    assert docker.router.look(docker.route).fell_back
    docker.router.take(docker.route, 2)
    docker.router.point(docker.route, BLUE, epoch=2, warm=None)
    assert where(docker) == (BLUE, BLUE, True, False)


@pytest.mark.docker
def test_host_names_share_a_port(docker: Stand, tmp_path: Path) -> None:
    from runners.routers.haproxy import HaproxyRouter

    assert docker.engine
    shared = free_ports(1)[0]
    settings = dataclasses.replace(docker.settings, shared_port=shared)
    docker.router = HaproxyRouter(settings, docker.engine, docker.place.installation)
    docker.route = dataclasses.replace(docker.route, port=0, host="hello.example")
    both(docker)
    other = dataclasses.replace(docker.route, key="other.test", host="other.example", preview_port=0)
    docker.router.ensure(other, BLUE, Backend(servers=()))
    assert get(shared, host="hello.example") == (200, "blue 1")
    assert get(shared, host=f"HELLO.example:{shared}") == (200, "blue 1")
    assert get(shared, host="other.example") == (503, "Nothing is live yet in other/test.")
    assert get(shared, host="nobody.example") == (404, "No environment has this host name.")
    assert docker.router.probe(docker.route) == BLUE
    assert docker.router.urls(docker.route)[0] == f"http://hello.example:{shared}"


@pytest.mark.docker
def test_a_port_in_use_is_named_with_its_holder_before_anything_is_touched(docker: Stand) -> None:
    with socket.create_server(("127.0.0.1", docker.route.port)):
        with pytest.raises(Unavailable, match=rf"port {docker.route.port} of hello.test is in use: .*\(pid \d+\)"):
            docker.router.ensure(docker.route, BLUE, Backend(servers=()))
        assert not (docker.settings.proxy / "haproxy.cfg").exists()
        assert docker.engine
        assert docker.engine.find({}) == []


@pytest.mark.docker
def test_a_new_environment_with_a_taken_port_leaves_the_others_as_they_are(docker: Stand) -> None:
    both(docker)
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as taken:
        other = dataclasses.replace(docker.route, key="other.test", port=taken.getsockname()[1], preview_port=0)
        with pytest.raises(Unavailable, match="in use"):
            docker.router.ensure(other, BLUE, Backend(servers=()))
    assert get(docker.route.port) == (200, "blue 1")
    assert "other.test" not in json.loads((docker.settings.proxy / "routes.json").read_text())


@pytest.mark.docker
def test_what_the_author_writes_can_not_change_the_configuration(docker: Stand) -> None:
    for path in ("/x\nserver evil 1.2.3.4:80", "/a b", "/'", "no-slash"):
        with pytest.raises(DefinitionError, match="health path"):
            docker.router.ensure(docker.route, BLUE, Backend(servers=(), health_path=path))
    evil = dataclasses.replace(docker.route, port=0, host="x } or { always_true")
    with pytest.raises(DefinitionError, match="host name"):
        docker.router.ensure(evil, BLUE, Backend(servers=()))


@pytest.mark.docker
def test_a_deep_home_folder_is_no_problem_for_the_socket(tmp_path: Path) -> None:
    with docker_stand(tmp_path / ("deep" * 20) / ("er" * 30)) as made:
        made.router.ensure(made.route, BLUE, Backend(servers=()))
        assert made.router.look(made.route).alive


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    written = Recorded(epoch=12, live="a.b.green", idle="a.b.blue", warm="a.b.blue", fell_back=True)
    write_map(tmp_path, "a.b", written)
    assert read_map(tmp_path, "a.b") == written
    assert read_map(tmp_path, "c.d") is None
