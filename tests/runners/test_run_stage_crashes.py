"""A worker is killed at every named point of a command stage: nothing runs twice, no line is lost or doubled."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import artifacts, logs, queue, results, runs
from pipeline.errors import LeaseLost, Unavailable
from pipeline.model import Status
from pipeline.settings import passed_on
from runners import execution, process
from runners.hands import Hands, source_of
from runners.stages import Work
from runners.stages import run as run_stage
from tests.runners.go_between import GoBetween
from tests.runners.stage_dies_here import take_over
from tests.runners.stage_stand import Done, Stand, standing

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
REPORT = '<testsuite name="s"><testcase name="good"/></testsuite>'
COMMANDS = [
    "echo x >> count; echo x >> other",
    "for n in $(seq 1 3000); do echo line $n; done; echo partial >&2; sleep 0.3",
    f"echo '{REPORT}' > r.xml; echo version=1 >> $PIPE_OUTPUT; printf 'the end'",
]
SPEC = {
    "run": COMMANDS,
    "artifacts": {"paths": ["count", "other"], "when": "always"},
    "reports": {"junit": "r.xml"},
    "outputs": ["version"],
}
POINTS = (
    *("run.creating", "run.created", "run.started", "run.logging", "run.logging:3", "run.ended", "run.exited"),
    *("run.reported", "run.keeping", "run.keeping:2", "run.collected"),
)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path) as made:
        yield made


def killed(stand: Stand, spec: Mapping[str, Any], point: str) -> int:
    """Do the stage in another process that dies at `point`; return the run's id."""
    run = stand.accept({"one": spec})
    module = "tests.runners.stage_dies_here"
    done = process.run(
        [sys.executable, "-m", module, str(stand.settings.home), str(stand.source), point],
        cwd=ROOT,
        env={**passed_on(), "PYTHONPATH": str(ROOT)},
        timeout_seconds=60,
    )
    assert done.code == -signal.SIGKILL, done
    take_over(stand)
    return run


def resumed(stand: Stand) -> Done:
    work = stand.work()
    assert work.resumed
    return Done(stand.do(work), stand.text(work), work)


def output(stand: Stand, work: Work) -> list[str]:
    return [line.text for line in logs.read(stand.settings, work.attempt.id) if line.stream == "out"]


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_stage_ends_as_if_nothing_had_happened(stand, point):
    killed(stand, SPEC, point)
    done = resumed(stand)
    assert done.outcome.status is Status.SUCCEEDED, done.log
    assert done.outcome.outputs == {"version": "1"}
    assert output(stand, done.work) == [*(f"line {n}" for n in range(1, 3001)), "the end"]
    named = [line for line in done.log.splitlines() if line.startswith("$ ")]
    assert named == [f"$ {command}" for command in COMMANDS]
    assert [line for line in done.log.splitlines() if line == "partial"] == ["partial"]
    kept = {file.path: file for file in artifacts.of_stage(stand.db, done.work.stage.id)}
    assert sorted(kept) == ["count", "other"]
    with artifacts.get(stand.settings, kept["count"].sha256) as file:
        assert file.read() == b"x\n"  # it ran once
    assert str(results.totals(stand.db, done.work.run.id)["one"]) == "1 test: 1 passed"
    assert [command["exit_code"] for command in done.outcome.commands] == [0, 0, 0]
    assert len(runs.attempts(stand.db, done.work.stage.id)) == 1
    assert stand.left() == []
    stand.sandboxes.sweep()
    for box in stand.engine.find({"pipewright.owner": "dead"}):
        with contextlib.suppress(Unavailable):  # gone already
            assert stand.engine.wait(box.id, timeout_seconds=10) is not None


@pytest.mark.parametrize("code", [0, 3, 137])
def test_the_code_of_what_ended_meanwhile_is_read_and_not_guessed(stand, code):
    killed(stand, {"run": ["echo begun", f"sleep 0.5; exit {code}"]}, "run.logging")
    (box,) = stand.engine.find({"pipewright.role": "stage"})
    stand.engine.wait(box.id)
    done = resumed(stand)
    assert done.outcome.exit_code == code
    assert done.outcome.status is (Status.SUCCEEDED if code == 0 else Status.FAILED)
    assert output(stand, done.work) == ["begun"]
    assert done.outcome.commands[-1]["exit_code"] == code


def test_a_container_that_somebody_removed_meanwhile_is_run_anew(stand):
    killed(stand, {"run": ["echo begun", "sleep 30"]}, "run.logging")
    (box,) = stand.engine.find({"pipewright.role": "stage"})
    stand.engine.remove(box.id)
    work = stand.work()
    threading.Thread(target=_cancel_when_begun, args=(stand, work), daemon=True).start()
    assert stand.do(work).status is Status.FAILED
    assert stand.left() == []


def _cancel_when_begun(stand: Stand, work: Work) -> None:
    while not work.cancelled.wait(0.1):
        if stand.engine.find({"pipewright.role": "stage"}):
            work.cancelled.set()


def test_a_worker_that_lost_its_lease_to_itself_ends_nothing_and_runs_nothing_twice(stand):
    hands = Hands(
        settings=stand.settings,
        db=stand.db,
        engine=stand.engine,
        name="w",
        scope="here",
        secrets=lambda run, names: {},
        source=lambda run: source_of(str(stand.source)),
        cleanup=stand.cleanup,
        sandboxes=stand.sandboxes,
    )
    run = stand.accept({"one": {"run": ["echo x >> count; echo begun", "sleep 3", "cat count"]}})
    lost = queue.claim(stand.db, owner="w", scope="here", lease_seconds=600.0)
    stop = threading.Event()
    before = threading.Thread(target=_do_until_lost, args=(hands, lost, stop))
    before.start()
    attempt = _first_attempt(stand, run)
    assert next(line.text for line in logs.follow(stand.settings, attempt) if line.text == "begun")
    queue.abandon(stand.db, lost)
    assert [job.status for job in runs.reap(stand.db)] == ["queued"]  # as another process does while this one sleeps
    stop.set()  # as the heartbeat does when it can not renew
    lease = queue.claim(stand.db, owner="w", scope="here", lease_seconds=600.0)
    execution.do(hands, lease, threading.Event())
    before.join()
    assert runs.get(stand.db, run).status is Status.SUCCEEDED
    said = [line.text for line in logs.read(stand.settings, attempt) if line.stream == "out"]
    assert said == ["begun", "x"]
    assert len(runs.attempts(stand.db, lease.ref)) == 1
    assert stand.left() == []


def _do_until_lost(hands: Hands, lease: queue.Lease, stop: threading.Event) -> None:
    with contextlib.suppress(LeaseLost):
        execution.do(hands, lease, stop)


def _first_attempt(stand: Stand, run: int) -> int:
    (stage,) = runs.stages(stand.db, run)
    while not (found := runs.attempts(stand.db, stage.id)):
        threading.Event().wait(0.05)
    return found[0].id


def test_a_work_folder_that_the_commands_removed_is_not_missed(stand):
    (stand.source / "web").mkdir()
    (stand.source / "web/x").write_text("x")
    killed(stand, {"workdir": "web", "run": ["echo begun", "rm -r ../web; sleep 0.5"]}, "run.logging")
    (box,) = stand.engine.find({"pipewright.role": "stage"})
    stand.engine.wait(box.id)
    assert resumed(stand).outcome.status is Status.SUCCEEDED


def test_services_live_on_for_the_next_worker(stand):
    service = {"image": "pipewright/debian:12", "command": ["sleep", "600"], "ready": {"run": "true"}}
    killed(stand, {"services": {"db": service}, "run": ["echo begun", "sleep 0.5", "getent hosts db"]}, "run.logging")
    done = resumed(stand)
    assert done.outcome.status is Status.SUCCEEDED, done.log
    assert stand.left() == []


def test_a_kill_after_the_record_leaves_only_what_is_known_to_be_left_over(stand):
    run = stand.accept({"one": {"run": ["true"]}})
    module = "tests.runners.stage_dies_here"
    argv = [sys.executable, "-m", module, str(stand.settings.home), str(stand.source), "recorded"]
    done = process.run(argv, cwd=ROOT, env={**passed_on(), "PYTHONPATH": str(ROOT)}, timeout_seconds=60)
    assert done.code == -signal.SIGKILL, done
    assert runs.get(stand.db, run).status is Status.SUCCEEDED
    for box in stand.engine.find({"pipewright.run": str(run)}):
        stand.engine.remove(box.id)
    assert stand.left() == []


def test_a_container_removed_under_our_hands_is_the_machines_doing(stand):
    stand.accept({"one": {"run": ["echo begun; sleep 60"]}})
    work = stand.work()
    threading.Thread(target=_remove_when_begun, args=(stand, work), daemon=True).start()
    try:
        outcome = stand.do(work)
        seen = (outcome.status, outcome.exit_code)
    except Unavailable as error:
        seen = error.cause
    # A removal kills first: its exit may be read in the moment before the container is gone.
    assert seen in ("runner_lost", (Status.FAILED, 137))


def _remove_when_begun(stand: Stand, work: Work) -> None:
    for line in logs.follow(stand.settings, work.attempt.id):
        if line.text == "begun":
            stand.engine.remove(work.key)
            return


def test_a_daemon_that_is_away_for_a_moment_costs_no_line(tmp_path):
    between = GoBetween(tmp_path / "docker.sock")
    try:
        with standing(tmp_path, PIPE_ENGINE=between.url) as stand:
            stand.accept({"one": {"run": ["for n in $(seq 1 40); do echo line $n; sleep 0.05; done; exit 5"]}})
            work = stand.work()
            threading.Thread(target=_cut_when_begun, args=(stand, work, between), daemon=True).start()
            outcome = stand.do(work)
            assert outcome.exit_code == 5
            assert output(stand, work) == [f"line {n}" for n in range(1, 41)]
            assert stand.left() == []
    finally:
        between.cut()


def _cut_when_begun(stand: Stand, work: Work, between: GoBetween) -> None:
    for line in logs.follow(stand.settings, work.attempt.id):
        if line.text == "line 5":
            between.cut()
            break
    threading.Event().wait(0.5)
    between.open()


def test_a_daemon_that_does_not_come_back_is_the_machines_doing(tmp_path, monkeypatch):
    between = GoBetween(tmp_path / "docker.sock")
    monkeypatch.setattr(run_stage, "_RECONNECTS", 2)
    with standing(tmp_path, PIPE_ENGINE=between.url) as stand:
        stand.accept({"one": {"run": ["echo line 1; sleep 60"]}})
        work = stand.work()
        threading.Thread(target=_cut_for_good, args=(stand, work, between), daemon=True).start()
        with pytest.raises(Unavailable) as caught:
            stand.do(work)
        assert caught.value.cause == "runner_lost"
        between.open()
    between.cut()


def _cut_for_good(stand: Stand, work: Work, between: GoBetween) -> None:
    for _ in logs.follow(stand.settings, work.attempt.id):
        between.cut()
        return
