"""Find the things a command is about: the definition, the environments, the repository's root.

Finding only; reading them is `pipeline.loading`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DefinitionError

NAME = "pipe.yml"
_MISSPELT = ("pipe.yaml", ".pipe.yml", "pipeline.yml", "pipeline.yaml")


@dataclass(frozen=True, slots=True)
class Found:
    """A definition on disk, and the way to it as a person here would write it."""

    path: Path
    shown: str

    @property
    def root(self) -> Path:
        """Return the repository's top folder, or the definition's own folder where it is in none."""
        folder = self.path.parent
        return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def find_definition(folder: Path) -> Found | None:
    """Return the `pipe.yml` of `folder` or of the nearest folder above, up to the repository's root."""
    for place in (folder, *folder.parents):
        candidate = place / NAME
        if candidate.is_file():
            return Found(candidate, _shown(candidate, folder))
        if (place / ".git").exists():
            return None
    return None


def definition(given: Path | None, *, folder: Path | None = None) -> Found:
    """Return the definition that is meant. Raises DefinitionError when there is none."""
    here = folder or Path.cwd()
    if given is not None:
        if given.is_dir():
            given = given / NAME
        if not given.is_file():
            raise DefinitionError(f"{given}: there is no such file", hint="`pipe init` writes a pipe.yml")
        return Found(given.absolute(), str(given))
    found = find_definition(here)
    if found:
        return found
    near = next((name for name in _MISSPELT if (here / name).is_file()), "")
    hint = (
        f"found {near}: name it {NAME}, or say `--file {near}`"
        if near
        else "`pipe init` writes one for this repository"
    )
    raise DefinitionError(f"there is no {NAME} in {here} or above it", hint=hint)


def _shown(path: Path, here: Path) -> str:
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    ups = len(here.relative_to(path.parent).parts)
    return str(Path(*[".."] * ups) / path.name)
