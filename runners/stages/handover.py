"""What stages hand to each other and leave behind: outputs, artifacts and test reports, as plain files.

A workspace was written by the commands of a stage: nothing is read through a link, and nothing is written through one.
Paths are relative to the folder of the pipeline's file. What a report means is `pipeline.reports`; where contents are
kept, `pipeline.artifacts`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StageFailed
from pipeline.faults import point
from runners.stages.user import User

if TYPE_CHECKING:
    from pipeline.reports import Case, Reading
    from runners.stages import Work

_OUTPUT_BYTES = 1 << 20
_MOST_FILES = 20_000
_SHOWN_TESTS = 10
_CHUNK_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(work: Work, folder: Path, user: User) -> None:
    """Write the artifacts of the stages that this one needs directly to the paths that they had."""
    if not work.stage.needs:
        return
    from pipeline import artifacts, runs

    names = {str(need["stage"]) for need in work.stage.needs}
    for stage in runs.stages(work.db, work.run.id):
        files = artifacts.of_stage(work.db, stage.id) if stage.name in names else []
        for file in files:
            with artifacts.get(work.settings, file.sha256) as content:
                try:
                    _write_below(folder, file.path, iter(lambda: content.read(_CHUNK_BYTES), b""), file.mode, user)
                except OSError as error:
                    raise StageFailed(
                        f"the artifact {file.path} of {stage.name} can not be unpacked: {error.strerror}",
                        hint="a link or another file of the repository is in its way",
                    ) from error
        if files:
            size = sum(file.size_bytes for file in files)
            work.log.say(f"{len(files)} artifacts of {stage.name} unpacked ({size / 1e6:.1f} MB)")


def outputs(work: Work, path: Path) -> dict[str, str]:
    """Return the `NAME=value` lines of the file behind $PIPE_OUTPUT whose names the stage declares."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            text = file.read(_OUTPUT_BYTES).decode(errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            if line.strip():
                work.log.say(f"warning: a line in $PIPE_OUTPUT is not `NAME=value`: {line[:80]}")
        elif name in work.spec.outputs:
            found[name] = value.removesuffix("\r")
        else:
            work.log.say(f"warning: the output `{name[:80]}` is not declared, add it to `outputs` of this stage")
    for name in work.spec.outputs:
        if name not in found:
            work.log.say(f"warning: the declared output `{name}` was not written to $PIPE_OUTPUT")
    return found


def keep_artifacts(work: Work, folder: Path, *, succeeded: bool) -> None:
    """Store the files that the stage's `artifacts` name. Raises Unavailable and LeaseLost."""
    wish = work.spec.artifacts
    if wish is None or (wish.when == "success" and not succeeded) or (wish.when == "failure" and succeeded):
        return
    from pipeline import artifacts
    from pipeline.reports.files import open_below
    from pipeline.reports.values import Refused

    kept = []
    for name in sorted({name for pattern in wish.paths for name in _matching(work, folder, pattern)}):
        try:
            with open_below(folder, name) as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                sha256, size = artifacts.put(work.settings, iter(lambda: file.read(_CHUNK_BYTES), b""))
        except Refused as refused:
            work.log.say(f"warning: the artifact {refused.at(name)}")
            continue
        point("run.keeping")
        kept.append(artifacts.Stored(path=name, size_bytes=size, sha256=sha256, mode=mode))
    artifacts.record(work.lease, work.attempt.number, kept, keep_seconds=wish.keep)
    work.log.say(f"{len(kept)} artifacts kept ({sum(file.size_bytes for file in kept) / 1e6:.1f} MB)")


def read_reports(work: Work, folder: Path) -> Reading | None:
    """Read, show and record the stage's test reports; None when it names none. Raises Unavailable and LeaseLost."""
    if work.spec.reports is None or not work.spec.reports.junit:
        return None
    from pipeline import results
    from pipeline.masking import Masker
    from pipeline.reports.views import Highlights
    from pipeline.reports.workspace import read_all

    highlights = Highlights(failing=_SHOWN_TESTS, slow=0)
    masker = Masker(work.secrets.values())
    store = results.case_sink(work.lease, work.stage, work.attempt.number, work.run.pipeline, masker=masker)

    def sink(cases: Sequence[Case]) -> None:
        highlights(cases)
        store(cases)

    reading = read_all(folder, work.spec.reports.junit, sink)
    results.record_reports(work.lease, work.stage, work.attempt.number, reading)
    if reading.reports:
        work.log.say(str(reading.totals))
    for case in highlights.failing:
        title = f"{case.status}: {' / '.join(part for part in (case.suite, case.name) if part)}"
        work.log.say("\n".join([title, *(f"  {line}" for line in case.message.splitlines()[:3])]))
    for finding in reading.findings:
        work.log.say(f"warning: {finding}")
    return reading


def _matching(work: Work, folder: Path, pattern: str) -> list[str]:
    """Return the files that a pattern names, a folder standing for everything in it; says when there are none."""
    from pipeline.reports.files import find
    from pipeline.reports.values import Refused

    found: list[str] = []
    why = ""
    for one in (pattern, f"{pattern.rstrip('/')}/**"):
        try:
            found += find(folder, one, _MOST_FILES)
        except Refused as refused:
            why = "matches nothing" if "no test report" in refused.what else f"{refused.what}: {refused.hint}"
    if not found:
        work.log.say(f"warning: the artifact path `{pattern}` {why}")
    return found


def _write_below(root: Path, name: str, chunks: Iterable[bytes], mode: int, user: User) -> None:
    """Write a file below `root`, each part of its path without following a link. Raises OSError."""
    *parents, last = name.split("/")
    with contextlib.ExitStack() as stack:
        folder = os.open(root, _FOLDER)
        stack.callback(os.close, folder)
        for parent in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o755, dir_fd=folder)
                _own(parent, folder, user)
            folder = os.open(parent, _FOLDER, dir_fd=folder)
            stack.callback(os.close, folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(last, dir_fd=folder)
        file = os.open(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | 0o200, dir_fd=folder)
        with open(file, "wb") as target:  # noqa: PTH123
            target.writelines(chunks)
            os.fchmod(file, mode)
        _own(last, folder, user)


def _own(name: str, folder: int, user: User) -> None:
    if os.geteuid() == 0:
        os.chown(name, user.uid, user.gid, dir_fd=folder, follow_symlinks=False)


def take_back(archive: Iterator[bytes], folder: Path) -> None:
    """Write the regular files of a container's archive below `folder`, without its first folder and without links."""
    from pipeline import tar

    try:
        for member in tar.files(archive, lambda name, why: None):
            _, _, name = member.path.partition("/")
            if name:
                _write_below(folder, name, member.chunks, member.mode, User(os.geteuid(), os.getegid(), "/"))
    except tar.ArchiveRefused as error:
        raise StageFailed(f"the files of the stage can not be read back: {error}", hint="keep fewer files") from error


def only_file(archive: Iterator[bytes]) -> bytes:
    """Return the content of the first regular file of an archive, as far as it may be long."""
    from pipeline import tar

    for member in tar.files(archive, lambda name, why: None):
        return b"".join(member.chunks)[:_OUTPUT_BYTES]
    return b""
