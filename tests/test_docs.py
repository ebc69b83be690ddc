"""The pages tell the truth: links lead somewhere, examples load, commands and settings exist, lists are whole.

What the help texts say is compared in `test_cli_docs.py`, the keys of the language in `test_language_docs.py`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "samples").glob("*/*.md")]
)
FENCE = re.compile(r"^(```+|~~~+)([^\n`]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Return the code blocks of a page: language, text, line."""
    text = page.read_text(encoding="utf-8")
    return [(m[2].strip(), m[3], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that the headings of a page get, as forges make them."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return frozenset(names)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or not there.is_relative_to(ROOT):
            dead.append(f"{target}: there is no such file")
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            dead.append(f"{target}: there is no such heading")
    assert dead == []


def test_the_design_lists_exactly_the_real_files() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci/files", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_settings_page_names_every_variable_and_no_other() -> None:
    source = (ROOT / "pipeline/settings.py").read_text(encoding="utf-8")
    real = set(re.findall(r'"((?:PIPE_|NO_COLOR|TERM)[A-Z_]*)"', source))
    page = prose(ROOT / "docs/reference/settings.md")
    told = set(re.findall(r"^\| `([A-Z_]+)(?:<NAME>)?` \|", page, re.MULTILINE))
    assert told == real


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", prose(folder / "README.md"))
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("[0-9]*.md")), ids=shown)
def test_a_decision_is_one_page_with_question_answer_and_price(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]}: ")
    assert [word for word in ("**Question.**", "**Answer.**", "**Price.**") if word not in text] == []
    assert len(text.splitlines()) <= 50


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_changelog_keeps_its_form() -> None:
    titles = re.findall(r"^#{2,3} (.+)$", prose(ROOT / "CHANGELOG.md"), re.MULTILINE)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert titles[0] == "[Unreleased]"
    assert [t for t in titles if t not in kinds and not re.fullmatch(r"\[(Unreleased|\d+\.\d+\.\d+)\].*", t)] == []


# What a fragment is put into, so that it can be read by itself.
HEAD = "version: 1\nname: example\n"
STAGES = """
stages:
  example: {build: {}}
  push: {push: {image: "${{ stages.example.image }}", to: registry.example/example, tags: [v1]}}
"""


def whole(block: str) -> str:
    """Return a block of a page as a whole definition: keys of a stage are put into one."""
    from pipeline.definition import Definition, Stage

    keys = set(re.findall(r"^([a-z_]+):", block, re.MULTILINE))
    if keys <= set(Stage.model_fields) - set(Definition.model_fields):
        kind = "" if keys & {"run", "build", "push", "promote"} else "image: example:1\nrun: 'true'\n"
        block = "stages:\n  example:\n" + indent(kind + block, "    ")
    text = block if "version" in keys else HEAD + block
    return text if re.search(r"^stages:", text, re.MULTILINE) else text + STAGES


YAML = [
    pytest.param(text, id=f"{shown(page)}:{line}")
    for page in PAGES
    for language, text, line in blocks(page)
    if language == "yaml"
]


@pytest.mark.parametrize("block", YAML)
def test_every_example_of_a_definition_loads(block: str, tmp_path: Path) -> None:
    from pipeline import loading

    if block.lstrip().startswith("applications:"):
        (tmp_path / "environments.yml").write_text(block)
        assert loading.load_environments(tmp_path / "environments.yml").applications
    else:
        (tmp_path / "pipe.yml").write_text(whole(block))
        assert loading.load(tmp_path / "pipe.yml").definition.stages


def commands(page: Path) -> list[list[str]]:
    """Return every command line of `pipe` that a page shows, as arguments."""
    lines = re.findall(r"(?<!`)`(pipe [^`\n]+)`(?!`)", prose(page))
    for language, text, _ in blocks(page):
        if language == "console":
            lines += re.findall(r"^\$ (?:.*\s)?(pipe .+)$", text, re.MULTILINE)
    return [shlex.split(re.split(r" [|&>;]|;|&", line)[0])[1:] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    import click

    from pipeline.cli.entry import pipe

    wrong = []
    for words in commands(page):
        command: click.Command = pipe
        context = click.Context(pipe, info_name="pipe", **pipe.context_settings)  # the help option is kept
        try:
            while isinstance(command, click.Group) and words and not words[0].startswith("-"):
                found = command.get_command(context, words[0])
                if found is None:
                    raise click.UsageError(f"no such command: {words[0]}")
                context = click.Context(found, info_name=words[0], parent=context, **found.context_settings)
                command, words = found, words[1:]
            command.make_parser(context).parse_args(list(words))
        except click.UsageError as error:
            wrong.append(f"{context.command_path} {' '.join(words)}: {error.format_message()}")
    assert wrong == []


def test_the_environments_page_names_every_key_and_no_other() -> None:
    from pipeline import policy

    models = {
        "An environment": policy.Environment,
        "target": policy.Target,
        "public": policy.Public,
        "strategy.blue_green": policy.BlueGreen,
        "requires": policy.Requires,
        "approval": policy.Approval,
        "freeze": policy.Freeze,
    }
    page = prose(ROOT / "docs/reference/environments.md")
    for title, model in models.items():
        section = re.split(r"^#{2,3} ", page.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
        told = {
            key
            for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
            for key in re.findall(r"`(\w+)`", cell)
        }
        assert told == {field.alias or name for name, field in model.model_fields.items()}, title
