"""Check values that a type alone can not judge: matrices, schedules, names that are taken, paths, images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from pipeline.checks.finder import Finder
from pipeline.definition import Matrix, Push, Ready, Stage
from pipeline.matrix import MAX_COMBINATIONS, axes, combinations, size
from pipeline.occasions import Input, ScheduleTrigger
from pipeline.positions import Path

# Whoever may set these says what programs do, also those of others: shells, loaders, interpreters.
TAKEN = frozenset(
    {
        *(
            "PATH",
            "HOME",
            "SHELL",
            "IFS",
            "ENV",
            "BASH_ENV",
            "CDPATH",
            "GLOBIGNORE",
            "PS4",
            "PROMPT_COMMAND",
            "SHELLOPTS",
        ),
        *(
            "BASHOPTS",
            "TMPDIR",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PYTHONHOME",
            "PERL5OPT",
            "PERL5LIB",
            "RUBYOPT",
            "RUBYLIB",
        ),
        *("NODE_OPTIONS", "NODE_PATH", "JAVA_TOOL_OPTIONS", "GCONV_PATH", "LOCPATH", "HOSTALIASES", "MALLOC_TRACE"),
        *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXEC_PATH", "GIT_ASKPASS", "EDITOR", "VISUAL", "PAGER"),
        *("DOCKER_HOST", "DOCKER_CONFIG", "PREVIEW_URL", "CI"),
    }
)
_TAKEN_STARTS = ("PIPE_", "LD_", "DYLD_", "GIT_CONFIG", "BASH_FUNC_")
_IMAGE = re.compile(r"[a-z0-9][\w.:/@+-]*", re.IGNORECASE)
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._:/-]*")
_TAG = re.compile(r"\w[\w.-]{0,127}")


def taken(variable: str) -> bool:
    """Tell whether an environment variable may not be set by an axis, an input, an output or a secret."""
    return variable in TAKEN or variable.startswith(_TAKEN_STARTS)


def check(finder: Finder) -> None:
    """Add every mistake of single values."""
    for name, stage in finder.stages():
        _stage(finder, ("stages", name), stage)
    on = finder.definition.on
    if on.schedule:
        _schedule(finder, on.schedule)
    if on.manual:
        _inputs(finder, on.manual.inputs)
    _env(finder, ("env",), finder.definition.env)
    _ready_of(finder, ("app", "accessories"), finder.definition.app.accessories if finder.definition.app else {})


def _schedule(finder: Finder, schedules: list[ScheduleTrigger]) -> None:
    from pipeline.triggers import cron_flaw, timezone_flaw

    for index, schedule in enumerate(schedules):
        if flaw := cron_flaw(schedule.cron):
            finder.wrong(("on", "schedule", index, "cron"), flaw, _CRON_HINT)
        if flaw := timezone_flaw(schedule.timezone):
            finder.wrong(("on", "schedule", index, "timezone"), flaw, "a name such as Europe/Berlin")


def _inputs(finder: Finder, inputs: dict[str, Input]) -> None:
    from pipeline.inputs import input_flaw

    for name, wanted in inputs.items():
        path = ("on", "manual", "inputs", name)
        _variable(finder, path, name.upper().replace("-", "_"), "input")
        if wanted.type == "choice" and not wanted.options:
            finder.wrong(path, "a `choice` needs `options`", key=True)
        elif wanted.default is not None and (flaw := input_flaw(wanted, wanted.default)):
            finder.wrong((*path, "default"), f"the default of `{name}` {flaw}")


_CRON_HINT = "minute hour day month weekday, like 0 3 * * 1-5"


def _stage(finder: Finder, path: Path, stage: Stage) -> None:
    if stage.matrix:
        _matrix(finder, (*path, "matrix"), stage.matrix)
    if stage.run == []:
        finder.wrong((*path, "run"), "`run` has no command", key=True)
    if stage.image:
        _image(finder, (*path, "image"), stage.image)
    if stage.services:
        for name, service in stage.services.items():
            _image(finder, (*path, "services", name, "image"), service.image)
            _env(finder, (*path, "services", name, "env"), service.env)
        _ready_of(finder, (*path, "services"), stage.services)
    if stage.env:
        _env(finder, (*path, "env"), stage.env)
    for index, name in enumerate(stage.secrets):
        _variable(finder, (*path, "secrets", index), name, "secret")
    for index, name in enumerate(stage.outputs):
        _variable(finder, (*path, "outputs", index), name, "output")
    if stage.push:
        _push(finder, (*path, "push"), stage.push)
    if stage.build:
        _inside(finder, (*path, "build", "context"), [stage.build.context])
        _inside(finder, (*path, "build", "dockerfile"), [stage.build.dockerfile])
    if stage.workdir and "${{" not in stage.workdir:
        _inside(finder, (*path, "workdir"), [stage.workdir])
    if stage.artifacts:
        _inside(finder, (*path, "artifacts", "paths"), stage.artifacts.paths)
    if stage.reports:
        _inside(finder, (*path, "reports", "junit"), stage.reports.junit)
    for index, cache in enumerate(stage.cache):
        _inside(finder, (*path, "cache", index, "key", "files"), cache.key.files)
    if stage.promote and stage.promote.verify:
        _image(finder, (*path, "promote", "verify", "image"), stage.promote.verify.image)


def _matrix(finder: Finder, path: Path, matrix: Matrix) -> None:
    for axis, values in axes(matrix).items():
        variable = axis.upper().replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", axis):
            finder.wrong(
                (*path, axis), f"`{axis[:80]}` can not be the name of an axis", "use lower-case letters", key=True
            )
        _variable(finder, (*path, axis), variable, "axis")
        if not values:
            finder.wrong((*path, axis), f"the axis `{axis[:80]}` has no values", key=True)
        elif len(set(values)) < len(values):
            finder.wrong((*path, axis), f"the axis `{axis[:80]}` has a value twice", key=True)
    count = size(matrix)
    if count > MAX_COMBINATIONS:
        finder.wrong(path, f"the matrix has {count} combinations, {MAX_COMBINATIONS} are allowed", key=True)
    elif all(axes(matrix).values()) and not combinations(matrix):
        finder.wrong(path, "the matrix has no combination", "give it an axis, or leave `matrix` out", key=True)
    for index, excluded in enumerate(matrix.exclude):
        for axis in excluded:
            if axis not in axes(matrix):
                finder.wrong((*path, "exclude", index, axis), f"there is no axis `{axis}`", key=True)
    for index, included in enumerate(matrix.include):
        for axis in included:
            _variable(finder, (*path, "include", index, axis), axis.upper().replace("-", "_"), "axis")


def _variable(finder: Finder, path: Path, variable: str, what: str) -> None:
    if taken(variable):
        message = f"${variable} can not be set by an {what}" if what[0] in "aio" else f"${variable} can not be a {what}"
        finder.wrong(path, message, "programs and shells obey it; choose another name", key=what in ("axis", "input"))


def _env(finder: Finder, path: Path, env: Iterable[str]) -> None:
    for name in env:
        if name.startswith("PIPE_"):
            finder.wrong((*path, name), f"${name}: names that begin with PIPE_ are ours", "choose another", key=True)


def _image(finder: Finder, path: Path, image: str) -> None:
    if "${{" not in image and not _IMAGE.fullmatch(image):
        finder.wrong(path, f"`{image[:80]}` is not a reference of an image", "like python:3.12-slim")


def _push(finder: Finder, path: Path, push: Push) -> None:
    if "${{" not in push.to:
        last = push.to.rpartition("/")[2]
        if "://" in push.to or "@" in push.to or not _REPOSITORY.fullmatch(push.to):
            finder.wrong(
                (*path, "to"), f"`{push.to[:80]}` is not a repository", "like registry.example/shop, lower case"
            )
        elif ":" in last:
            finder.wrong(
                (*path, "to"), "`to` names a repository without a tag", f"write tags: [{last.partition(':')[2]}]"
            )
    for index, tag in enumerate(push.tags):
        if tag and "${{" not in tag and not _TAG.fullmatch(tag):
            finder.wrong((*path, "tags", index), f"`{tag[:80]}` can not be a tag", "letters, digits, _ . and -")


def _inside(finder: Finder, path: Path, values: list[str]) -> None:
    for index, value in enumerate(values):
        if value.startswith("/") or ".." in PurePosixPath(value).parts or "\0" in value:
            place = (*path, index)
            finder.wrong(place, f"`{value[:80]}` leads out of the workspace", "paths are relative to the workspace")


def _ready_of(finder: Finder, path: Path, containers: dict[str, Any]) -> None:
    for name, container in containers.items():
        ready: Ready | None = container.ready
        if ready and sum(getattr(ready, way) is not None for way in ("run", "port", "http")) != 1:
            finder.wrong((*path, name, "ready"), "`ready` has exactly one of `run`, `port`, `http`", key=True)
