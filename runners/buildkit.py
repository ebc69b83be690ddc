"""The builder: BuildKit through the `docker-buildx` program, its command as a value and its progress as data.

The plugin is called by itself, not through `docker`: it is a program of its own, an older client that
stands first in PATH does not matter then, and two program starts are saved. What a stage makes
of a build is `stages.build`'s; why a layer was built again is `cache_report`'s.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import Unavailable
from pipeline.settings import Settings, passed_on
from runners.process import Stream

_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/Applications/Docker.app/Contents/Resources/cli-plugins",
)
_PLACE = r"(?:(?P<platform>[a-z0-9]+/[a-z0-9/]+) )?(?:(?P<stage>[^\s\]]+) )?(?P<number>\d+)/\d+"
_STEP = re.compile(rf"\[{_PLACE}\] (?P<text>.*)", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Everything about one build, as a value."""

    context: Path
    dockerfile: Path
    tag: str
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # name -> value: reach the builder by environment only
    ca_bundle: str = ""  # a file, offered to the Dockerfile as the secret `ca_bundle`
    platforms: tuple[str, ...] = ()
    cache_space: str = ""  # cache mounts are kept apart by this name
    cache_from: tuple[str, ...] = ()  # references in a registry whose inline cache may be used
    inline_cache: bool = False
    cache: bool = True


def command(program: str, build: Build, *, image_id_file: Path) -> tuple[str, ...]:
    """Return the command of a build; no secret stands in it."""
    args = dict(build.args)
    if build.cache_space:
        args["BUILDKIT_CACHE_MOUNT_NS"] = build.cache_space
    if build.inline_cache:
        args["BUILDKIT_INLINE_CACHE"] = "1"
    options = ["--builder=default", "--load", "--progress=rawjson", "--provenance=false", "--sbom=false"]
    options += [f"--file={build.dockerfile}", f"--iidfile={image_id_file}", f"--tag={build.tag}"]
    options += [f"--target={build.target}"] if build.target else []
    options += [f"--platform={','.join(build.platforms)}"] if build.platforms else []
    options += [] if build.cache else ["--no-cache"]
    options += [f"--label={name}={value}" for name, value in sorted(build.labels.items())]
    options += [f"--build-arg={name}={value}" for name, value in sorted(args.items())]
    options += [f"--secret=id={name},env={_variable(name)}" for name in sorted(build.secrets)]
    options += [f"--secret=id=ca_bundle,src={build.ca_bundle}"] if build.ca_bundle else []
    options += [f"--cache-from=type=registry,ref={reference}" for reference in build.cache_from]
    return (program, "build", *options, "--", str(build.context))


def environment(settings: Settings, build: Build, engine_url: str) -> dict[str, str]:
    """Return the whole environment of a build: where the engine is, and the secrets under names of ours."""
    env = {name: value for name, value in passed_on().items() if name not in ("DOCKER_CONTEXT", "BUILDX_BUILDER")}
    env |= {"DOCKER_HOST": engine_url} if engine_url else {}
    env["BUILDX_CONFIG"] = str(settings.home / "buildx")
    return env | {_variable(name): value for name, value in build.secrets.items()}


def _variable(secret: str) -> str:
    return f"PIPE_SECRET_{secret}"  # its own name could be one that the builder itself listens to


def program(environ: Mapping[str, str] | None = None) -> str:
    """Return the path of the buildx plugin, found where the docker CLI would find it.

    Raises:
        Unavailable: there is none.
    """
    env = passed_on() if environ is None else environ
    for folder in _folders(env):
        for name in ("docker-buildx", "docker-buildx.exe"):
            if os.access(folder / name, os.X_OK) and (folder / name).is_file():
                return str(folder / name)
    raise Unavailable(
        "builds need buildx, which is not installed",
        hint="Install docker-buildx (Debian: docker-buildx, elsewhere docker-buildx-plugin); `pipe doctor` says more.",
    )


def _folders(env: Mapping[str, str]) -> Iterator[Path]:
    config = Path(env["DOCKER_CONFIG"]) if env.get("DOCKER_CONFIG") else Path(env.get("HOME", "/")) / ".docker"
    yield config / "cli-plugins"
    try:
        extra = json.loads((config / "config.json").read_text()).get("cliPluginsExtraDirs") or []
        yield from (Path(folder) for folder in extra)
    except (OSError, ValueError, AttributeError, TypeError):  # no configuration, or not one of docker's
        pass
    yield from (Path(folder) for folder in _PLUGIN_FOLDERS)
    yield from (Path(folder) for folder in env.get("PATH", "").split(os.pathsep) if folder)


@dataclass
class Step:
    """One instruction of the Dockerfile as the builder saw it, or a step of the builder's own (`number` 0)."""

    name: str
    stage: str = ""
    number: int = 0
    text: str = ""
    cached: bool = False
    pulled: bool = False  # layers were fetched for it
    started: float = 0.0
    completed: float = 0.0
    error: str = ""

    @property
    def seconds(self) -> float:
        """Return how long it took, 0 when it was not carried out."""
        return max(0.0, self.completed - self.started) if self.started and self.completed else 0.0


@dataclass
class Progress:
    """Reads the builder's report line by line, passes output on, and keeps what the steps were.

    The report is a stream of SolveStatus objects of BuildKit, one to a line or pretty-printed over many,
    followed by plain text when the build fails.
    """

    say: Callable[[str], None]
    output: Callable[[Stream, bytes], None]
    steps: dict[str, Step] = field(default_factory=dict)
    complaint: list[str] = field(default_factory=list)  # the plain text at the end
    last_output: list[str] = field(default_factory=list)
    context_bytes: int = 0
    _object: list[bytes] = field(default_factory=list)
    _rest: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _shown: str = ""

    def hear(self, stream: Stream, line: bytes) -> None:
        """Take one line of what the program says."""
        if self._object or line.startswith(b"{"):
            self._object.append(line)
            if line.endswith(b"}") and (line.startswith(b"}") or len(self._object) == 1):
                text, self._object = b"\n".join(self._object), []
                self._status(json.loads(text))
        elif stream == "err" and line.strip():
            self.complaint.append(line.decode(errors="replace"))

    def finish(self) -> None:
        """Pass on what the last lines were that had no newline."""
        for (vertex, number), rest in self._rest.items():
            if rest:
                self._line(vertex, number, rest)
        self._rest.clear()

    def _status(self, status: Mapping[str, Any]) -> None:
        for vertex in status.get("vertexes") or ():
            self._vertex(vertex)
        for entry in status.get("statuses") or ():
            if entry.get("id") == "transferring context:":
                self.context_bytes = max(self.context_bytes, int(entry.get("current") or 0))
            elif str(entry.get("id", "")).startswith(("sha256:", "extracting")) and entry["vertex"] in self.steps:
                self._pulled(entry["vertex"])
        for entry in status.get("logs") or ():
            self._log(entry["vertex"], int(entry.get("stream") or 1), base64.b64decode(entry.get("data") or ""))
        for entry in status.get("warnings") or ():
            self.say("warning: " + base64.b64decode(entry.get("short") or "").decode(errors="replace"))

    def _vertex(self, vertex: Mapping[str, Any]) -> None:
        known = self.steps.get(vertex["digest"])
        if known is None:
            known = self.steps[vertex["digest"]] = _step(str(vertex.get("name") or ""))
        began = not known.started and bool(vertex.get("started"))
        known.cached = known.cached or bool(vertex.get("cached"))
        known.started = _moment(vertex.get("started")) or known.started
        known.completed = _moment(vertex.get("completed")) or known.completed
        known.error = str(vertex.get("error") or known.error)
        if began and known.number and not known.cached and not known.text.startswith("FROM "):
            self._show(vertex["digest"])

    def _pulled(self, digest: str) -> None:
        step = self.steps[digest]
        if not step.pulled:
            step.pulled = True
            self._show(digest)

    def _show(self, digest: str) -> None:
        self._shown = digest
        self.say(self.steps[digest].name)

    def _log(self, vertex: str, number: int, data: bytes) -> None:
        *lines, rest = (self._rest.get((vertex, number), b"") + data).split(b"\n")
        self._rest[vertex, number] = rest
        for line in lines:
            self._line(vertex, number, line)

    def _line(self, vertex: str, number: int, line: bytes) -> None:
        if self._shown != vertex and vertex in self.steps:
            self._show(vertex)  # steps run side by side: say whose line this is
        self.output("err" if number == 2 else "out", line + b"\n")
        self.last_output.append(line.decode(errors="replace"))
        del self.last_output[:-20]


def _step(name: str) -> Step:
    match = _STEP.fullmatch(name)
    if match is None:
        return Step(name)
    stage = " ".join(part for part in (match["platform"], match["stage"]) if part)
    return Step(name, stage, int(match["number"]), match["text"])


def _moment(text: object) -> float:
    if not isinstance(text, str):
        return 0.0
    stamp, _, fraction = text.rstrip("Z").partition(".")
    digits = re.match(r"\d*", fraction)
    return datetime.fromisoformat(stamp + "+00:00").timestamp() + float(f"0.{digits[0] if digits else ''}0")
