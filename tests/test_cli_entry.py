"""The command as a program: start, welcome, mistakes in the command line, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pipe(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real program, in a home of its own."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PIPE_HOME": str(cwd / "home"), **environ}
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_told_without_importing_click(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['pipe', '--version']\n"
        "from pipeline.__main__ import main\n"
        "assert main() == 0\n"
        "assert 'click' not in sys.modules and 'typing' not in sys.modules, sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pipe 0.")


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_and_welcome_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pipeline.cli.entry import run\n"
        f"assert run({words!r}) == 0\n"
        "heavy = {'sqlalchemy', 'pydantic', 'docker', 'rich', 'yaml', 'git', 'alembic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_newcomer_is_told_the_next_step(tmp_path: Path) -> None:
    assert "Next:\n  pipe init " in pipe(cwd=tmp_path).stdout
    (tmp_path / "pipe.yml").write_text("version: 1\n")
    inner = tmp_path / "src"
    inner.mkdir()
    assert "Next:\n  pipe run     run the pipeline in ../pipe.yml" in pipe(cwd=inner).stdout


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    done = pipe("lnit", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean" in done.stderr
    assert "'lint'" in done.stderr


def test_a_mistyped_option_is_answered_too(tmp_path: Path) -> None:
    done = pipe("logs", "--folow", cwd=tmp_path)
    assert done.returncode == 2
    assert "'--follow'" in done.stderr
    assert "`pipe logs --help`" in done.stderr


def test_a_setting_that_is_no_number_is_the_persons_mistake(tmp_path: Path) -> None:
    done = pipe("runs", cwd=tmp_path, PIPE_CAPACITY="many")
    assert done.returncode == 2
    assert "PIPE_CAPACITY is 'many'" in done.stderr


def test_a_home_that_can_not_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    done = pipe("runs", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_locale_without_our_glyphs_is_no_reason_to_die(tmp_path: Path) -> None:
    done = pipe(cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="POSIX")
    assert done.returncode == 0, done.stderr
    done = pipe("doctor", cwd=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert "Traceback" not in done.stderr
    assert "UnicodeEncodeError" not in done.stderr


def test_a_reader_who_leaves_early_is_no_error(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    shell = f"{sys.executable} -m pipeline --help | head -1"
    done = subprocess.run(["bash", "-c", shell], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""


_WAITING = """
import sys, threading
from pipeline.cli.interrupts import Interrupts
told = threading.Event()
with Interrupts(lambda: (print("cancelling", flush=True), told.set())) as interrupts:
    print("ready", flush=True)
    told.wait(30)
    if sys.argv[1] == "twice":
        threading.Event().wait(30)
sys.exit(130 if interrupts.heard else 0)
"""


@pytest.mark.parametrize("how_often", ["once", "twice"])
def test_ctrl_c_cancels_once_and_leaves_at_once_the_second_time(how_often: str) -> None:
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    child = subprocess.Popen(
        [sys.executable, "-c", _WAITING, how_often], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "cancelling\n"
    if how_often == "twice":
        child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert time.monotonic() - begun < 10
    assert ("left at once" in err) == (how_often == "twice")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_completion_script(shell: str, tmp_path: Path) -> None:
    done = pipe("completion", shell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"_PIPE_COMPLETE={shell}_complete" in done.stdout


def test_a_shell_that_completes_gets_commands_and_their_meaning(tmp_path: Path) -> None:
    asked = {"_PIPE_COMPLETE": "fish_complete", "COMP_WORDS": "pipe lo", "COMP_CWORD": "lo"}
    done = pipe(cwd=tmp_path, **asked)
    assert done.stdout == "plain,logs\tPrint what the stages of a run wrote.\n"
    assert done.stderr == ""
