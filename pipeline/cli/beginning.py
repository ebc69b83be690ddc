"""Write a first pipe.yml for a repository, and say what it stands on; for `pipe init`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.exits import Exit
from pipeline.cli.places import NAME
from pipeline.errors import DefinitionError, PipeError

if TYPE_CHECKING:
    from pipeline.settings import Settings

_OURS = re.compile(r"pipewright/([a-z]+):(\S+)")
_PATIENCE_SECONDS = 5


def begin(settings: Settings, folder: Path, *, only_print: bool, force: bool) -> int:
    """Write the definition, or print it; return the exit code. Raises DefinitionError when one is there already."""
    from pipeline.scaffold import scaffold

    path = folder / NAME
    if path.exists() and not (force or only_print):
        raise DefinitionError(f"there is a {NAME} here already", hint="`pipe init --print` shows what would be written")
    made = scaffold(folder, images=_images_here(settings))
    if only_print:
        click.echo(made.text.rstrip())
        return Exit.DONE
    path.write_text(made.text, encoding="utf-8")
    _tell(made.found, made.guessed)
    return Exit.DONE


def _images_here(settings: Settings) -> dict[str, str]:
    """Return the images that `make setup` made here because none can be pulled; none where they can."""
    from pipeline.settings import passed_on
    from runners import process

    env = passed_on() | ({"DOCKER_HOST": settings.engine_url} if settings.engine_url else {})
    words = ("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    try:
        told = process.run(words, env=env, timeout_seconds=_PATIENCE_SECONDS).text
    except PipeError:  # no docker here: the definition is written for a machine that has it
        return {}
    if re.search("^debian:", told, re.MULTILINE):  # the base of ours was pulled, so others can be as well
        return {}
    found = {match[1]: match[0] for line in told.splitlines() if (match := _OURS.fullmatch(line))}
    return {("any" if name == "debian" else name): image for name, image in found.items()}


def _tell(found: tuple[str, ...], guessed: tuple[str, ...]) -> None:
    from pipeline.cli.tables import say

    say([("✓", "good"), (f" wrote {NAME}", "bold")])
    for text in found:
        say([("  found    ", "dim"), (text, "")])
    for text in guessed:
        say([("  guessed  ", "warn"), (text, "")])
    say([("\n  next     ", "dim"), ("pipe lint", "bold"), ("  check it after you have changed something", "dim")])
    say([("           ", ""), ("pipe run ", "bold"), ("  run it, from the working tree as it is", "dim")])
