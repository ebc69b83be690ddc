"""The reference of the command line, the menu's short texts and the documented JSON say what the program says.

`python -m tests.test_cli_docs` writes the help texts in the documents anew.
"""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline import settings
from pipeline.cli.entry import pipe
from pipeline.cli.exits import Exit
from pipeline.cli.menu import COMMANDS
from pipeline.cli.view_board import Board
from pipeline.cli.view_json import JsonView
from tests import cli_story as story

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs/reference/cli.md"
PAGES = (REFERENCE, ROOT / "README.md")
# A fenced block that begins with `$ pipe ... --help`, up to the fence's end.
_BLOCK = re.compile(r"(?P<open>```text\n\$ pipe(?P<words>[^\n]*?) --help\n)(?P<text>.*?)(?P<end>```)", re.DOTALL)


def real_help(words: list[str]) -> str:
    """Return what `pipe WORDS --help` prints on a terminal of 80 columns."""
    result = CliRunner().invoke(pipe, [*words, "--help"], prog_name="pipe", obj=settings.load({}), terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.output


def blocks(page: Path) -> list[tuple[list[str], str]]:
    """Return the help texts that a page shows, with the words of their command."""
    return [(shlex.split(m["words"]), m["text"]) for m in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


SHOWN = [(page, words, text) for page in PAGES for words, text in blocks(page)]


@pytest.mark.parametrize(
    ("page", "words", "text"), SHOWN, ids=[f"{page.name}: pipe {' '.join(words)}" for page, words, _ in SHOWN]
)
def test_a_help_text_in_the_documents_is_the_real_one(page: Path, words: list[str], text: str) -> None:
    assert text == real_help(words), f"python -m tests.test_cli_docs writes {page.name} anew"


def test_every_command_stands_in_the_reference() -> None:
    shown = {tuple(words) for _, words, _ in SHOWN}
    wanted = {()} | {tuple(words) for words in every_command()}
    assert wanted - shown == set()


def every_command() -> list[list[str]]:
    """Return the words of all commands, with those of groups inside the menu."""
    found = []
    for name in COMMANDS:
        command = pipe.get_command(click.Context(pipe), name)
        assert command is not None
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.commands]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_menu_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    command = pipe.get_command(click.Context(pipe), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name][1]


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_tells_what_it_does_and_gives_examples(words: list[str]) -> None:
    text = real_help(words)
    assert text.startswith(f"Usage: pipe {' '.join(words)}")
    assert "Examples:\n  pipe" in text or isinstance(pipe.get_command(click.Context(pipe), words[0]), click.Group)
    assert max(map(len, text.splitlines())) <= 80


def test_every_exit_code_stands_in_the_reference_and_in_the_help() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    for code in Exit:
        assert re.search(rf"^\| {code.value} \|", reference, re.MULTILINE), code
        assert re.search(rf"\b{code.value} [a-z]", real_help([]).replace("\n", " ")), code


def test_the_documented_fields_of_events_are_the_real_ones() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    documented = {
        m[1]: set(re.findall(r"`(\w+)`", m[2]))
        for m in re.finditer(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", text, re.M)
    }
    assert documented == events_told()


def events_told() -> dict[str, set[str]]:
    """Return the fields of every kind of event that the story makes."""
    import json

    out = io.StringIO()
    view = JsonView(out, Board())
    for event in story.released():
        view.take(event)
    view.close(1030.0)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    return {
        kind: set().union(*(e for e in told if e["event"] == kind)) - {"event"} for kind in {e["event"] for e in told}
    }


def write_anew() -> None:
    """Put the real help texts into the documents."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(
            _BLOCK.sub(lambda m: m["open"] + real_help(shlex.split(m["words"])) + m["end"], text), encoding="utf-8"
        )


if __name__ == "__main__":
    write_anew()
