"""Look at a repository and write a first `pipe.yml` for it: commented, right by `pipe lint`, and able to run.

`looking` reads small files of the repository, `languages` knows the test tools by the files they leave,
`services` what a Compose file hints at, `writing` puts it into words. Nothing of the repository is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.scaffold.languages import IMAGES
from pipeline.scaffold.looking import look
from pipeline.scaffold.writing import write


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A first definition, and in `found` and `guessed` what it stands on, as sentences."""

    text: str
    found: tuple[str, ...]
    guessed: tuple[str, ...]


def scaffold(folder: Path, *, images: Mapping[str, str] | None = None) -> Scaffold:
    """Write a definition for the repository at `folder`.

    `images` replaces the image of a language (or of a service) by one that this installation has; its keys
    are those of IMAGES, its values references, in which `{version}` is the version that the repository asks for.
    """
    seen = look(folder)
    table = {**IMAGES, **(images or {})}
    text = write(seen, table)
    return Scaffold(text, tuple(seen.found), tuple(seen.guessed))


__all__ = ["IMAGES", "Scaffold", "scaffold"]
