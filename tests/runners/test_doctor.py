"""The doctor looks at real things: a folder, a socket, a port, an engine; and dies of none of them."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline import settings
from runners import doctor

NOWHERE = "unix:///nonexistent/engine.sock"


@pytest.fixture
def here(tmp_path):
    return settings.load({"PIPE_HOME": str(tmp_path / "home"), "PIPE_ENGINE": NOWHERE})


def found(checks, name):
    return next(check for check in checks if check.name == name)


def test_without_an_engine_the_rest_is_examined_all_the_same(here):
    checks = doctor.examine(here)
    assert checks[0].name == "engine"
    assert checks[0].verdict == "fail"
    assert NOWHERE in checks[0].detail
    assert {"git", "permissions", "disk", "database"} <= {check.name for check in checks}


def test_a_home_that_is_not_there_yet_is_no_trouble_and_is_not_made(here):
    checks = doctor.examine(here)
    assert found(checks, "permissions").verdict == "ok"
    assert found(checks, "database").verdict == "ok"
    assert not here.home.exists()


def test_a_home_that_others_may_read_is_found(here):
    here.home.mkdir(mode=0o755)
    check = found(doctor.examine(here), "permissions")
    assert check.verdict == "warn"
    assert check.mend == f"chmod 700 {here.home}"


def test_a_damaged_database_is_a_finding_with_its_hint(here):
    here.home.mkdir(mode=0o700)
    (here.home / "pipewright.db").write_bytes(b"no database at all, but longer than a header" * 100)
    check = found(doctor.examine(here), "database")
    assert check.verdict == "fail"
    assert check.mend


@pytest.fixture
def listener():
    """A web server that is no registry, on a free port of loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_something_else_on_the_registrys_port_is_found(here, listener):
    check = doctor._registry(replace(here, registry_port=listener))
    assert check.verdict == "fail"
    assert "PIPE_REGISTRY_PORT" in check.mend


def test_a_port_where_nobody_listens_is_left_for_the_registry(here):
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))  # bound, and never listening
        assert doctor._registry(replace(here, registry_port=once.getsockname()[1])).verdict == "ok"


def test_a_proxy_that_was_killed_leaves_a_door_that_nobody_opens(here):
    here.proxy.mkdir(parents=True)
    door = here.proxy / "admin.sock"
    assert doctor._proxy(here).verdict == "ok"
    with socket.socket(socket.AF_UNIX) as proxy:
        proxy.bind(str(door))
        proxy.listen()
        assert doctor._proxy(here).detail == "HAProxy answers"
    check = doctor._proxy(here)
    assert check.verdict == "warn"
    assert str(door) in check.detail


@pytest.mark.parametrize(("ahead", "skew"), [(timedelta(), 0), (timedelta(seconds=90), 90), (timedelta(-1), -86400)])
def test_skew_is_measured_against_both_ends_of_the_question(ahead, skew):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    its = (now + ahead).isoformat().replace("+00:00", ".000000123Z")
    assert doctor._skew(its, now.timestamp(), now.timestamp()) == pytest.approx(skew, abs=0.001)


@pytest.mark.docker
def test_the_engine_of_this_machine_is_fit(tmp_path):
    ours = settings.load({**settings.passed_on(), "PIPE_HOME": str(tmp_path / "home")})
    checks = doctor.examine(ours)
    for name in (
        "engine",
        "engine address",
        "buildx",
        "compose",
        "image",
        "clock",
        "limits",
        "addresses",
        "engine's disk",
    ):
        assert found(checks, name).verdict == "ok", found(checks, name)


@pytest.mark.docker
def test_an_engine_that_is_not_the_docker_clients_is_found(tmp_path):
    ours = settings.load({**settings.passed_on(), "PIPE_HOME": str(tmp_path / "home")})
    check = doctor._address(ours, {"ID": "another engine's"})
    assert check.verdict == "fail"
    assert "PIPE_ENGINE" in check.mend
