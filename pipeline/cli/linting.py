"""Check definitions and the operator's environments, and show every finding with its line; for `pipe lint`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.exits import Exit
from pipeline.cli.places import definition, find_definition
from pipeline.cli.planning import ENVIRONMENTS
from pipeline.errors import DefinitionError

if TYPE_CHECKING:
    from pipeline.mistakes import Mistake

_HADOLINT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one file: mistakes, or warnings, with the texts that they are about."""

    file: str
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]
    texts: dict[str, str]
    stages: int = 0
    refused: str = ""  # why it could not be read at all


def check(files: Sequence[Path], *, strict: bool, as_json: bool) -> int:
    """Check these files, or those that are meant by the folder; print the findings and return the exit code."""
    verdicts = [_judge(path, shown) for path, shown in _meant(files)]
    for verdict in verdicts:
        (_as_json if as_json else _as_text)(verdict)
    wrong = any(v.mistakes or v.refused or (strict and v.warnings) for v in verdicts)
    return Exit.USAGE if wrong else Exit.DONE


def _meant(files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    if files:
        for path in files:
            found = definition(path)
            yield found.path, found.shown
        return
    here = find_definition(Path.cwd())
    folder = here.path.parent if here else Path.cwd()
    environments = folder / ENVIRONMENTS
    if here or not environments.is_file():
        found = here or definition(None)  # raises, with a hint
        yield found.path, found.shown
    if environments.is_file():
        yield environments, str(ENVIRONMENTS) if folder == Path.cwd() else str(environments)


def _judge(path: Path, shown: str) -> Verdict:
    from pipeline import loading
    from pipeline.mistakes import WrongDefinition

    try:
        if path.name == ENVIRONMENTS.name:
            loading.load_environments(path, shown=shown)
            return Verdict(shown, (), (), {})
        loaded = loading.load(path, root=_root(path), shown=shown)
    except WrongDefinition as error:
        texts = {mistake.file: _text(path, mistake.file, shown) for mistake in error.mistakes}
        return Verdict(shown, error.mistakes, (), texts)
    except DefinitionError as error:
        return Verdict(shown, (), (), {}, refused=str(error))
    from pipeline import lint

    warnings = [*lint.warnings(loaded), *_dockerfiles(path, lint.dockerfiles(loaded))]
    return Verdict(shown, (), tuple(warnings), dict(loaded.files), stages=len(loaded.definition.stages))


def _root(path: Path) -> Path:
    from pipeline.cli.places import Found

    return Found(path, "").root


def _text(path: Path, file: str, shown: str) -> str:
    place = path if file == shown else path.parent / file
    try:
        return place.read_text(encoding="utf-8", errors="replace")[: 1 << 20]
    except OSError:
        return ""


def _dockerfiles(path: Path, names: Sequence[str]) -> Iterator[Mistake]:
    """Let hadolint judge the Dockerfiles, where it is installed."""
    if not names or not shutil.which("hadolint"):
        return
    from pipeline import lint
    from pipeline.settings import passed_on
    from runners import process

    for name in names:
        if (path.parent / name).is_file():
            done = process.run(
                lint.hadolint_argv(name), env=passed_on(), cwd=path.parent, timeout_seconds=_HADOLINT_SECONDS
            )
            yield from lint.hadolint_warnings(done.text, name)


def _as_json(verdict: Verdict) -> None:
    if verdict.refused:
        click.echo(json.dumps({"severity": "error", "file": verdict.file, "message": verdict.refused}))
    for severity, found in (("error", verdict.mistakes), ("warning", verdict.warnings)):
        for mistake in found:
            click.echo(json.dumps({"severity": severity, **mistake.as_data()}))


def _as_text(verdict: Verdict) -> None:
    from pipeline.cli.colours import painted
    from pipeline.cli.view_text import counted
    from pipeline.mistakes import SHOWN, render

    if verdict.refused:
        click.echo(f"{painted('error:', 'bold bad')} {verdict.refused}")
        return
    for word, style, found in (("error", "bold bad", verdict.mistakes), ("warning", "bold warn", verdict.warnings)):
        for mistake in found[:SHOWN]:
            told = render(mistake, verdict.texts.get(mistake.file, ""))
            click.echo(f"{painted(word + ':', style)} {told}\n")
        if len(found) > SHOWN:
            click.echo(f"and {counted(len(found) - SHOWN, 'more ' + word)}\n")
    if verdict.mistakes:
        click.echo(painted(f"{verdict.file}: {counted(len(verdict.mistakes), 'mistake')}", "bad"))
    else:
        what = f"{counted(verdict.stages, 'stage')}, " if verdict.stages else ""
        told = counted(len(verdict.warnings), "warning") if verdict.warnings else "nothing to complain about"
        click.echo(f"{painted('✓', 'good')} {verdict.file}: {what}{told}")
