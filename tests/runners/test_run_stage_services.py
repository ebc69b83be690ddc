"""Services beside a stage: found by name, waited for, given their secrets in memory, shown when something fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StageFailed, Unavailable
from pipeline.model import Status
from tests.runners.stage_stand import IMAGE, Stand, standing

pytestmark = pytest.mark.docker

LISTEN = (
    "use IO::Socket::INET; $| = 1; "
    "my $s = IO::Socket::INET->new(LocalPort => $ENV{PORT}, Listen => 5, ReuseAddr => 1) or die; "
    "print qq(listening\\n); "
    "while (my $c = $s->accept) { $_ = <$c>; print $c qq(HTTP/1.0 $ENV{STATUS} x\\r\\n\\r\\n$ENV{ANSWER}\\n); "
    "close $c }"
)
ASK = "exec 3<>/dev/tcp/{host}/{port}; echo 'GET / HTTP/1.0' >&3; cat <&3"


def listener(port: int = 8080, *, status: int = 200, answer: str = "hello", **more: object) -> dict[str, object]:
    env = {"PORT": str(port), "STATUS": str(status), "ANSWER": answer}
    return {"image": IMAGE, "command": ["perl", "-e", LISTEN], "env": env, **more}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path) as made:
        yield made


def test_services_are_found_by_their_names_and_waited_for(stand):
    services = {
        "db": listener(5432, answer="from db", ready={"port": 5432}),
        "web": listener(80, answer="from web", ready={"http": "/health"}),
        "other": listener(9000, answer="from other", ready={"http": ":9000/health", "interval": "100ms"}),
        "late": {
            "image": IMAGE,
            "command": ["sh", "-c", "sleep 0.5; touch /tmp/up; sleep 600"],
            "ready": {"run": "test -f /tmp/up", "interval": "100ms"},
        },
    }
    asks = [ASK.format(host=host, port=port) for host, port in (("db", 5432), ("web", 80), ("other", 9000))]
    done = stand.run({"shell": "bash", "services": services, "run": asks})
    assert done.outcome.status is Status.SUCCEEDED
    for name in ("db", "web", "other"):
        assert f"from {name}" in done.log
        assert f"the service {name} is ready after" in done.log
    assert stand.left() == []


def test_two_attempts_have_each_a_service_of_their_own_on_the_same_port(stand):
    stand.accept(
        {
            name: {
                "shell": "bash",
                "services": {"db": listener(5432, answer=f"of {name}", ready={"port": 5432})},
                "run": [ASK.format(host="db", port=5432)],
            }
            for name in ("a", "b")
        }
    )
    for name, work in (("a", stand.work()), ("b", stand.work())):
        stand.do(work)
        assert f"of {name}" in stand.text(work)
    assert stand.left() == []


def test_a_service_that_does_not_get_ready_is_named_and_its_words_are_shown(stand):
    spec = {"image": IMAGE, "command": ["sh", "-c", "echo I am waiting for Godot; sleep 600"]}
    stand.accept({"a": {"services": {"db": {**spec, "ready": {"port": 5432, "timeout": "1s"}}}, "run": ["true"]}})
    work = stand.work()
    with pytest.raises(StageFailed, match="the service db is not ready after 1 s") as caught:
        stand.do(work)
    assert caught.value.cause == "service"
    assert "db | I am waiting for Godot" in stand.text(work)
    stand.cleanup.all_later(work.cleanup)
    assert stand.left() == []


def test_a_service_that_ends_is_not_waited_for(stand):
    spec = {"image": IMAGE, "command": ["sh", "-c", "echo no licence >&2; exit 4"]}
    stand.accept({"a": {"services": {"db": {**spec, "ready": {"run": "true", "timeout": "60s"}}}, "run": ["true"]}})
    work = stand.work()
    with pytest.raises(StageFailed, match="ended with exit code 4"):
        stand.do(work)
    assert "db | no licence" in stand.text(work)
    stand.cleanup.all_later(work.cleanup)
    assert stand.left() == []


def test_what_services_said_is_shown_when_the_commands_fail(stand):
    service = listener(ready={"port": 8080})
    done = stand.run({"services": {"web": service}, "run": ["false"]})
    assert done.outcome.status is Status.FAILED
    assert "web | listening" in done.log
    assert "web | listening" not in stand.run({"services": {"web": service}, "run": ["true"]}).log


def test_secrets_reach_services_as_files_in_memory_or_as_environment_when_asked(stand):
    show = "cat /run/secrets/PASSWORD | tr a-z A-Z > /tmp/seen; mount | grep -c 'tmpfs on /run/secrets' >> /tmp/seen"
    service = {
        "image": IMAGE,
        "command": [
            "sh",
            "-c",
            f"{show}; echo $TOKEN | tr a-z A-Z >> /tmp/seen; cat /tmp/seen; touch /tmp/up; sleep 600",
        ],
        "secrets": ["PASSWORD", {"name": "TOKEN", "as": "env"}],
        "ready": {"run": "test -f /tmp/up", "interval": "100ms"},
    }
    secrets = {"PASSWORD": "geheim", "TOKEN": "zeichen"}
    done = stand.run({"services": {"db": service}, "run": ["echo ${PASSWORD:-none}; false"]}, secrets=secrets)
    assert [line for line in done.log.splitlines() if line.startswith("db |")] == ["db | GEHEIM1", "db | ZEICHEN"]
    assert "none" in done.log.splitlines()
    assert stand.left() == []


def test_a_service_whose_image_can_not_be_had_leaves_nothing(stand):
    stand.accept({"a": {"services": {"db": {"image": "localhost:1/no:1"}, "web": listener()}, "run": ["true"]}})
    work = stand.work()
    with pytest.raises(Unavailable) as caught:
        stand.do(work)
    assert caught.value.cause == "image_pull"
    stand.cleanup.all_later(work.cleanup)
    assert stand.left() == []
