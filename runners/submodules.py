"""Fill the submodules of a snapshot: from the working tree where they are checked out, else from where they say.

Never by `git submodule update`: names, paths and URLs come from a file that a stranger may have written,
so each is checked here, and each submodule becomes a self-contained clone of its own.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import urljoin

from pipeline.errors import DefinitionError
from pipeline.model import Event
from pipeline.settings import Settings
from runners import clones, git, mirrors, repository, working_tree

_DEPTH = 5  # submodules of submodules


def fill(settings: Settings, top: Path, tree: Path, *, depth: int = 1) -> None:
    """Fill every submodule of the checked-out `tree`; `top` is the working tree that it was taken from.

    Raises:
        DefinitionError: a submodule's path or URL is not allowed, or they are nested too deep.
        Unavailable: one can not be fetched.
    """
    wanted = _gitlinks(tree)
    if wanted and depth > _DEPTH:
        raise DefinitionError(f"the submodules of {top} are nested more than {_DEPTH} deep")
    for path, sha in wanted.items():
        place = _inside(tree, path)
        here = top / path
        if (here / ".git").exists() and not here.is_symlink():
            found = repository.event(here)
            mirror = mirrors.of_here(settings, repository.locate(here), sha if found.sha == git.ZERO else found.sha)
            event = Event(kind="push", repository=str(here), ref="", sha=found.sha)
            clones.clone(mirror, place, event)
            working_tree.lay_over(here, place, found.sha, changes=True)
        else:
            url = _url(tree, path)
            mirror = mirrors.of_url(settings, url, ref="refs/heads/main", sha=sha)
            clones.clone(mirror, place, Event(kind="push", repository=url, ref="", sha=sha))
        fill(settings, here, place, depth=depth + 1)


def _gitlinks(tree: Path) -> dict[str, str]:
    listed = git.strict("ls-files", "--stage", "-z", at=tree).out.decode(errors="surrogateescape").split("\0")
    entries = (line.split("\t", 1) for line in listed if line.startswith("160000 "))
    return {path: meta.split(" ")[1] for meta, path in entries}


def _inside(tree: Path, path: str) -> Path:
    """Return the empty folder of a submodule; no link on the way to it is followed."""
    parts = PurePosixPath(path).parts
    place = tree
    for part in parts:
        place = place / part
        if part in ("..", ".git") or place.is_symlink():
            raise DefinitionError(f"the submodule {git.printable(path)} does not lie inside its repository")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _url(tree: Path, path: str) -> str:
    """Return the URL that `.gitmodules` gives for a path, a relative one resolved against the origin."""
    modules = tree / ".gitmodules"
    if modules.is_symlink() or not modules.is_file():
        raise DefinitionError(f"the submodule {git.printable(path)} has no entry in .gitmodules")
    listed = git.strict(
        "config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$", at=tree
    )
    found = dict(entry.split("\n", 1) for entry in listed.out.decode(errors="replace").split("\0") if "\n" in entry)
    name = next(
        (key.removesuffix(".path") for key, value in found.items() if key.endswith(".path") and value == path), ""
    )
    url = found.get(f"{name}.url", "")
    if url.startswith(("./", "../")):
        origin = git.strict("config", "--get", "remote.origin.url", at=tree).text
        url = urljoin(origin.rstrip("/") + "/", url)
    return git.check_url(url)
