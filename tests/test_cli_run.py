"""`pipe run` as a person uses it: the real program on a real engine, its output, its exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import settings
from pipeline.db import Database

ROOT = Path(__file__).resolve().parent.parent
IMAGE = settings.load().base_image

GREEN = f"""\
version: 1
name: tiny
on: {{manual: {{inputs: {{word: {{default: hello}}}}}}}}
stages:
  one: {{image: "{IMAGE}", run: 'echo "one says $WORD"'}}
  two: {{image: "{IMAGE}", run: [echo two, echo done > made.txt], artifacts: {{paths: [made.txt]}}}}
"""
RED = f"""\
version: 1
name: tiny
stages:
  fine: {{image: "{IMAGE}", needs: [], run: echo fine}}
  bad: {{image: "{IMAGE}", needs: [fine], run: [echo before, exit 3]}}
  after: {{image: "{IMAGE}", needs: [bad], run: echo never}}
"""
SLOW = f"""\
version: 1
name: tiny
stages:
  slow: {{image: "{IMAGE}", run: [echo begun, sleep 600]}}
"""


@dataclass
class Project:
    """A folder with a definition, and a home of its own for the records."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "DOCKER_HOST", "HOME") if key in os.environ}
        return {**kept, "PYTHONPATH": str(ROOT), "PIPE_HOME": str(self.folder / "home"), "PIPE_USER": "ana"}

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipeline", *words]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=self.env | env, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def pipe(self, *words: str, **env: str) -> tuple[int, str, str]:
        child = self.start(*words, **env)
        out, err = child.communicate(timeout=120)
        return child.returncode, out, err

    def write(self, definition: str) -> None:
        (self.folder / "pipe.yml").write_text(definition)

    def containers(self) -> list[str]:
        """Return the containers of runs; a sandbox that has ended is removed by the engine in its own time."""
        mine = ["--filter", f"label=pipewright.installation={self.installation}", "--filter", "label=pipewright.run"]
        return _docker("ps", "--all", "--quiet", *mine)

    @property
    def installation(self) -> str:
        db = Database.open(settings.load(self.env))
        try:
            return db.installation
        finally:
            db.close()


def _docker(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    if not (tmp_path / "home").is_dir():
        return
    label = f"label=pipewright.installation={made.installation}"
    for kind, remove in (("container", ["rm", "--force", "--volumes"]), ("network", ["rm"]), ("volume", ["rm"])):
        everything = ["--all"] if kind == "container" else []
        for name in _docker(kind, "ls", "--quiet", *everything, "--filter", label):
            subprocess.run(["docker", kind, *remove, name], capture_output=True, check=False)


@pytest.mark.docker
def test_a_green_run_ends_with_zero_and_leaves_no_container(project: Project) -> None:
    project.write(GREEN)
    code, out, err = project.pipe("run", "-i", "word=servus")
    assert (code, err) == (0, "")
    assert "one | one says servus\n" in out
    assert "tiny #1 succeeded" in out
    assert project.containers() == []
    _, shown, _ = project.pipe("show")
    assert "made.txt" in shown


@pytest.mark.docker
def test_a_red_run_ends_with_one_and_says_what_to_do_next(project: Project) -> None:
    project.write(RED)
    code, out, _ = project.pipe("run")
    assert code == 1
    assert "bad | before\n" in out
    assert "never" not in out
    assert "after: skipped, it needs bad, which failed" in out
    assert "pipe logs 1 bad" in out
    assert project.pipe("logs", "1", "bad", "-n", "1")[1].strip() == "`exit 3` ended with exit code 3"
    code, out, _ = project.pipe("retry", "1", "--failed")
    assert code == 1
    assert "fine | fine" not in out  # it was taken over
    assert project.containers() == []


@pytest.mark.docker
def test_named_stages_bring_those_that_they_need(project: Project) -> None:
    project.write(RED)
    code, out, _ = project.pipe("run", "fine")
    assert code == 0
    assert "bad" not in out


@pytest.mark.docker
def test_json_tells_every_event_and_the_summary_last(project: Project) -> None:
    project.write(RED)
    code, out, _ = project.pipe("run", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert events[0]["event"] == "run"
    assert [e["text"] for e in events if e["event"] == "output" and e["stream"] == "out"] == ["fine", "before"]
    moves = [e["status"] for e in events if e["event"] == "stage" and e["stage"] == "fine"]
    assert moves == ["queued", "running", "succeeded"]
    assert events[-1]["event"] == "summary"
    assert events[-1]["status"] == "failed"


@pytest.mark.docker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_ends_the_container_and_returns_130(project: Project, number: signal.Signals) -> None:
    project.write(SLOW)
    child = project.start("run")
    assert child.stdout is not None
    for line in child.stdout:
        if "slow | begun" in line:
            break
    child.send_signal(number)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "pipe: cancelling" in out
    assert "tiny #1 cancelled" in out
    assert project.containers() == []


@pytest.mark.docker
def test_a_reader_who_leaves_early_does_not_change_the_exit_code(project: Project) -> None:
    project.write(RED)
    child = project.start("run")
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    with child.stderr as errors:
        assert errors.read() == ""
    assert child.wait(timeout=120) == 1


def test_without_an_engine_the_machine_is_to_blame_and_a_hint_is_given(project: Project) -> None:
    project.write(GREEN)
    code, out, err = project.pipe("run", DOCKER_HOST=f"unix://{project.folder}/nobody.sock")
    assert code == 3
    assert "Traceback" not in out + err
    assert "pipe doctor" in out + err


def test_a_wrong_definition_starts_nothing(project: Project) -> None:
    project.write("version: 1\nname: tiny\nstages:\n  one: {image: x:1, rnu: true}\n")
    code, _, err = project.pipe("run")
    assert code == 2
    assert "pipe.yml:4" in err
    assert "`run`" in err
    assert project.pipe("runs")[1].startswith("There are no runs yet")


def test_a_shell_without_a_terminal_is_refused(project: Project) -> None:
    project.write(GREEN)
    code, _, err = project.pipe("shell", "one")
    assert code == 2
    assert "needs a terminal" in err
