"""Commands that read and steer the records, on a real database that a small story has filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline import logs, queue, runs, settings
from pipeline.cli.entry import guard, pipe
from pipeline.db import Database
from pipeline.model import Event, Outcome, Status


@dataclass(frozen=True)
class Planned:
    """A stage as a plan has it."""

    position: int
    name: str
    base: str
    needs: tuple[Mapping[str, Any], ...] = ()
    kind: str = "run"
    spec: Mapping[str, Any] = field(default_factory=lambda: {"run": ["true"], "image": "x"})
    matrix: Mapping[str, Any] = field(default_factory=dict)
    line: int = 1
    skip_reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan of a small shop: lint, and two shards of unit tests behind it."""

    event: Event
    path: str = "pipe.yml"
    text: str = "name: shop"
    definition: Mapping[str, Any] = field(default_factory=lambda: {"version": 1, "name": "shop", "stages": {}})
    environments: Mapping[str, Any] = field(default_factory=dict)
    concurrency: Mapping[str, Any] | None = None
    stages: tuple[Planned, ...] = (
        Planned(0, "lint", "lint"),
        Planned(1, "unit [shard=1]", "unit", needs=({"stage": "lint", "optional": False},)),
        Planned(2, "unit [shard=2]", "unit", needs=({"stage": "lint", "optional": False},)),
    )


class Shop:
    """The records of a shop's runs, and `pipe` run against them."""

    def __init__(self, home: Path) -> None:
        self.environ = {"PIPE_HOME": str(home), "PIPE_USER": "ana"}
        self.settings = settings.load(self.environ)
        self.db = Database.open(self.settings)

    def accept(self) -> int:
        event = Event(kind="push", repository="/shop", ref="refs/heads/main", sha="ab" * 20, branch="main")
        return runs.accept(self.db, Plan(event), by="ana").id

    def work(self, *, failing: str = "") -> None:
        """Do every job there is; the stage `failing` says no."""
        while lease := queue.claim(self.db, owner="test"):
            _, stage, attempt = runs.begin(lease, worker="test")
            log = logs.open_log(self.settings, attempt.id)
            log.say(f"begin {stage.name}")
            log.feed("out", b"one\n\x1b[31mtwo\x1b[0m\n\x1b]0;title\x07three\n")
            log.close()
            bad = stage.name == failing
            status = Status.FAILED if bad else Status.SUCCEEDED
            commands = ({"text": "true", "seconds": 0.1, "exit_code": 0}, {"text": "make", "exit_code": int(bad)})
            runs.finish(
                lease,
                Outcome(status=status, cause="failed" if bad else "", reason="`make` said no" * bad, commands=commands),
            )

    def pipe(self, *words: str) -> Result:
        result = CliRunner().invoke(pipe, words, prog_name="pipe", obj=self.settings)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


@pytest.fixture
def shop(tmp_path: Path):
    made = Shop(tmp_path / "home")
    yield made
    made.db.close()


def test_a_house_without_runs_says_how_to_make_one(shop: Shop) -> None:
    assert "`pipe run` makes the first one" in shop.pipe("runs").output


def test_runs_are_listed_newest_first(shop: Shop) -> None:
    shop.accept()
    shop.work()
    shop.accept()
    lines = shop.pipe("runs").output.splitlines()
    assert lines[0].split()[:3] == ["run", "pipeline", "status"]
    assert lines[1].split()[:4] == ["#2", "shop", "○", "queued"]
    assert lines[2].split()[:4] == ["#1", "shop", "✓", "succeeded"]


def test_runs_as_json_are_one_object_a_line(shop: Shop) -> None:
    shop.accept()
    (line,) = shop.pipe("runs", "--json").output.splitlines()
    assert json.loads(line)["run"] == 1


def test_show_tells_the_latest_run_and_what_to_do_next(shop: Shop) -> None:
    shop.accept()
    shop.work(failing="unit [shard=1]")
    text = shop.pipe("show").output
    assert "shop #1 failed" in text
    assert "✗ unit [shard=1]  failed" in text
    assert "pipe retry 1 --failed" in text
    assert "exit 1" in text  # of the command that failed


def test_show_as_json_holds_every_attempt(shop: Shop) -> None:
    shop.accept()
    shop.work()
    told = json.loads(shop.pipe("show", "1", "--json").output)
    assert [stage["stage"] for stage in told["stages"]] == ["lint", "unit [shard=1]", "unit [shard=2]"]
    assert told["stages"][0]["tries"][0]["commands"][0]["text"] == "true"


def test_logs_of_one_stage_are_as_it_wrote_them(shop: Shop) -> None:
    shop.accept()
    shop.work()
    assert shop.pipe("logs", "1", "lint").output == "begin lint\none\ntwo\nthree\n"
    assert shop.pipe("logs", "1", "lint", "-n", "1").output == "three\n"


def test_logs_of_several_stages_name_them(shop: Shop) -> None:
    shop.accept()
    shop.work()
    lines = shop.pipe("logs", "1", "unit").output.splitlines()
    assert lines[0] == "unit [shard=1] | begin unit [shard=1]"
    assert lines[-1] == "unit [shard=2] | three"


def test_logs_as_json_number_their_lines(shop: Shop) -> None:
    shop.accept()
    shop.work()
    told = [json.loads(line) for line in shop.pipe("logs", "1", "lint", "--json").output.splitlines()]
    assert [(line["line"], line["stream"]) for line in told] == [(1, "pipe"), (2, "out"), (3, "out"), (4, "out")]
    assert told[3]["text"] == "\x1b]0;title\x07three"  # a program gets it as it was


def test_following_a_run_that_has_ended_prints_all_and_returns_its_exit_code(shop: Shop) -> None:
    shop.accept()
    shop.work(failing="lint")
    result = shop.pipe("logs", "-f", "1")
    assert "lint | three\n" in result.output


def test_a_misspelt_stage_is_answered_with_the_one_that_was_meant(shop: Shop) -> None:
    shop.accept()
    with pytest.raises(Exception, match=r"did you mean `unit`\?"):
        shop.pipe("logs", "1", "unti")


def test_an_error_is_a_message_with_a_hint_and_an_exit_code(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    code = guard(
        lambda: pipe.main(["show", "7"], "pipe", standalone_mode=False, obj=shop.settings), [], shop.settings.home
    )
    assert code == 2
    assert capsys.readouterr().err == "error: there is no run 7\n  `pipe runs` lists them\n"


def test_a_defect_is_one_line_and_a_file(shop: Shop, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert guard(lambda: 1 / 0, ["run"], tmp_path / "crashes") == 3
    (kept,) = (tmp_path / "crashes").iterdir()
    message, hint = capsys.readouterr().err.splitlines()
    assert message == "error: a defect of pipe itself: ZeroDivisionError: division by zero"
    assert str(kept) in hint
    assert "Traceback" in kept.read_text()
    assert "command: pipe run" in kept.read_text()


def test_cancelling_what_waits_ends_it_at_once(shop: Shop) -> None:
    number = shop.accept()
    assert shop.pipe("cancel", f"#{number}", "--reason", "wrong branch").output == "run 1 is cancelled\n"
    assert runs.get(shop.db, number).status is Status.CANCELLED
    assert "wrong branch" in shop.pipe("show").output


def test_cancelling_a_run_whose_process_is_gone_ends_it(shop: Shop) -> None:
    event = Event(kind="push", repository="/shop", ref="refs/heads/main", sha="ab" * 20, branch="main")
    gone = f"{shop.settings.hostname}:{2**22 + 1}:1"  # above every process id
    number = runs.accept(shop.db, Plan(event), scope=gone, by="ana").id
    lease = queue.claim(shop.db, owner=gone, scope=gone)
    assert lease is not None
    runs.begin(lease, worker=gone)
    assert "its process was gone" in shop.pipe("cancel", str(number)).output
    assert runs.get(shop.db, number).status is Status.CANCELLED


def test_what_is_no_number_is_no_run(shop: Shop) -> None:
    result = shop.pipe("show", "latest")
    assert result.exit_code == 2
    assert "is no run's number" in result.output


def test_runs_and_stages_are_completed_from_the_records(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.accept()
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    assert _completed(["logs"], "") == ["1"]
    assert _completed(["logs", "1"], "unit") == ["unit [shard=1]", "unit [shard=2]"]
    assert _completed([], "lo") == ["logs"]


def _completed(words: list[str], incomplete: str) -> list[str]:
    from click.shell_completion import ShellComplete

    return [item.value for item in ShellComplete(pipe, {}, "pipe", "_PIPE_COMPLETE").get_completions(words, incomplete)]
