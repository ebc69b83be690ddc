"""Read the repository that is here: what is checked out, by whom, and how a commit differs from another.

Looking only; nothing is fetched or changed. `event` and `locate` stand on the way of every
`pipe run` and ask git itself, in a few milliseconds; the other questions go through GitPython, whose
import costs more than all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DefinitionError, NotFound, Unavailable
from pipeline.model import Event
from runners import git

if TYPE_CHECKING:
    from git import Repo

_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a folder lies in its repository; `top` is None for a folder that is in none."""

    folder: Path
    top: Path | None
    prefix: str = ""  # from `top` to `folder`, without slashes at the ends
    common: Path | None = None  # where the repository itself is: `.git`, also for a worktree beside it


def locate(folder: Path) -> Place:
    """Say in which repository a folder lies. One that its repository ignores lies in none."""
    folder = folder.resolve()
    found = git.own("rev-parse", "--show-toplevel", "--git-common-dir", "--show-prefix", at=folder)
    if not found.ok:
        return Place(folder, None)
    top, common, prefix = [*found.text.split("\n"), "", ""][:3]
    prefix = prefix.rstrip("/")
    if prefix and git.own("check-ignore", "--quiet", ".", at=folder).code == 0:
        return Place(folder, None)
    return Place(folder, Path(top), prefix, (folder / common).resolve())


def event(source: Path, kind: str = "push", *, by: str = "") -> Event:
    """Describe the working tree at `source` as an event: branch, commit, author, and whether it is dirty.

    A repository without commits, and a folder in no repository, have the commit id of forty zeros and
    are dirty: the tree as it stands is all there is to run.

    Raises:
        DefinitionError: `kind` is `tag` and no tag points at the commit.
        Unavailable: git can not read the repository.
    """
    place = locate(source)
    if place.top is None:
        return Event(kind=kind, repository=str(place.folder), ref="", sha=git.ZERO, by=by, author=by, dirty=True)
    told = git.own("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", at=place.top)
    heads, changes = _headers(git.expect(told, f"the repository {place.top} can not be read").out)
    branch = "" if heads["branch.head"] == "(detached)" else heads["branch.head"]
    sha = heads["branch.oid"]
    ref = f"refs/heads/{branch}" if branch else "HEAD"
    known = Event(
        kind=kind, repository=str(place.folder), ref=ref, sha=git.ZERO, branch=branch, by=by, author=by, dirty=True
    )
    if sha == "(initial)":
        return known
    author, _, message = git.own("log", "-1", "--format=%an <%ae>%x00%B", sha, "--", at=place.top).text.partition("\0")
    tag = _tag(place.top, sha) if kind == "tag" else ""
    ref = f"refs/tags/{tag}" if tag else ref
    return replace(known, ref=ref, sha=sha, tag=tag, author=author, message=message.strip(), dirty=changes)


def _headers(status: bytes) -> tuple[dict[str, str], bool]:
    parts = status.decode(errors="surrogateescape").split("\0")
    heads = dict(part[2:].split(" ", 1) for part in parts if part.startswith("# "))
    return heads, any(part and not part.startswith("# ") for part in parts)


def _tag(top: Path, sha: str) -> str:
    tags = git.own(
        "for-each-ref", "--sort=-creatordate", f"--points-at={sha}", "--format=%(refname:strip=2)", "refs/tags", at=top
    ).text.splitlines()
    if not tags:
        raise DefinitionError(f"no tag points at the checked-out commit {sha[:12]}", hint="Make one with `git tag`.")
    return tags[0]


def default_branch(source: Path) -> str:
    """Return the branch that others start from: what `origin` says, else main or master, else the one checked out."""
    found = git.own("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD", at=source)
    if found.ok:
        return found.text.removeprefix("origin/")
    names = git.own("for-each-ref", "--format=%(refname:strip=2)", "refs/heads/main", "refs/heads/master", at=source)
    if names.ok and names.text:
        return names.text.splitlines()[0]
    current = git.own("symbolic-ref", "--quiet", "--short", "HEAD", at=source)
    return current.text if current.ok else ""


def event_at(source: Path, revision: str, kind: str = "push", *, by: str = "") -> Event:
    """Describe a commit of the repository at `source` as an event, without what is uncommitted.

    Raises:
        NotFound: there is no such revision.
    """
    place = locate(source)
    with _opened(place) as repository:
        commit = _commit(repository, revision)
        branch = revision if revision in (head.name for head in repository.heads) else ""
        tag = revision if revision in (tag.name for tag in repository.tags) else ""
        paths = tuple(sorted(str(path) for path in commit.stats.files)) if commit.parents else None
        return Event(
            kind=kind,
            repository=str(place.folder),
            ref=f"refs/heads/{branch}" if branch else f"refs/tags/{tag}" if tag else commit.hexsha,
            sha=commit.hexsha,
            branch=branch,
            tag=tag,
            before=commit.parents[0].hexsha if commit.parents else "",
            message=str(commit.message).strip(),
            author=f"{commit.author.name} <{commit.author.email}>",
            by=by,
            paths=paths,
        )


def changed_paths(source: Path, before: str, after: str) -> tuple[str, ...]:
    """Return the paths that differ between two commits, both names of a renamed file. Raises NotFound."""
    with _opened(locate(source)) as repository:
        found = _commit(repository, before).diff(_commit(repository, after), no_renames=True)
        return tuple(sorted({path for change in found for path in (change.a_path, change.b_path) if path}))


def subjects(source: Path, since: str, until: str, *, limit: int = 50) -> list[str]:
    """Return the commits of `until` that `since` has not, newest first, as `id subject`; none where git can not tell.

    Raises:
        DefinitionError: one of them is not a full commit id.
    """
    place = locate(source)
    if place.top is None or not since.strip("0") or not until.strip("0"):
        return []
    told = git.own(
        "log",
        f"--max-count={limit}",
        "--format=%h %s",
        f"{git.check_sha(since)}..{git.check_sha(until)}",
        "--",
        at=place.top,
    )
    return told.text.splitlines() if told.ok else []


def text_at(source: Path, sha: str, path: str) -> str:
    """Return the text of a regular file at a commit; a link is refused, for it may point anywhere.

    Raises:
        NotFound: there is no such commit or file, or it is no regular file of at most 1 MiB of UTF-8.
    """
    with _opened(locate(source)) as repository:
        try:
            blob = _commit(repository, sha).tree / path
        except KeyError as error:
            raise NotFound(f"there is no {path} at commit {sha[:12]}") from error
        if blob.type != "blob" or blob.mode == blob.link_mode or blob.size > _FILE_BYTES:
            raise NotFound(f"{path} at commit {sha[:12]} is not a regular file of at most 1 MiB")
        try:
            return bytes(blob.data_stream.read()).decode()
        except UnicodeDecodeError as error:
            raise NotFound(f"{path} at commit {sha[:12]} is not UTF-8") from error


@contextmanager
def _opened(place: Place) -> Iterator[Repo]:
    from git import Repo
    from git.exc import GitError

    try:
        with Repo(place.folder if place.top is None else place.top) as repository:  # closes its children of git
            yield repository
    except GitError as error:
        raise Unavailable(
            f"the repository {place.folder} can not be read: {error}", hint="Is it a git repository?"
        ) from error


def _commit(repository: Repo, revision: str):  # type: ignore[no-untyped-def]
    from gitdb.exc import BadName, BadObject  # type: ignore[import-untyped]

    if revision.startswith("-"):
        raise NotFound(f"{git.printable(revision)} is not a revision")
    try:
        return repository.commit(revision)
    except (BadName, BadObject, ValueError, IndexError) as error:
        raise NotFound(
            f"there is no commit {git.printable(revision)} here", hint="`git log --all` lists what there is."
        ) from error
