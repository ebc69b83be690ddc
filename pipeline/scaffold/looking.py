"""Read what a repository says of itself: name, Dockerfiles, ports, health path, test tools, services."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.scaffold.languages import Suite, suites
from pipeline.scaffold.services import Hint, hints
from pipeline.scaffold.sources import names, text_of

_HEALTH_WORDS = "healthz?|health[-_]?check|readyz?|livez|ping|status|up|alive"
_HEALTH = re.compile(rf"""["'`](/(?:-/)?(?:api/)?(?:{_HEALTH_WORDS}))["'`]""")
_LOCAL_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d+)?(/[\w./-]*)")
_SOURCES = (".py", ".js", ".ts", ".mjs", ".go", ".rs", ".java", ".kt", ".rb", ".php")
_TEST_TARGETS = ("test", "tests", "testing", "ci")
_RUNTIME_TARGETS = ("runtime", "production", "prod", "release", "final", "app", "run")


@dataclass
class Dockerfile:
    """One Dockerfile: where it is, its named stages, the ports that it exposes."""

    path: str
    targets: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    @property
    def test_target(self) -> str:
        """Return the stage that holds the test tools, or an empty string."""
        return next((t for t in self.targets if t in _TEST_TARGETS), "")

    @property
    def runtime_target(self) -> str:
        """Return the stage that is put live, if the last one is not it."""
        if not self.targets or self.targets[-1] not in _TEST_TARGETS:
            return ""  # the last stage is what a build makes by itself
        before = [target for target in reversed(self.targets) if target not in _TEST_TARGETS]
        return next((target for target in before if target in _RUNTIME_TARGETS), before[0] if before else "")


@dataclass
class Seen:
    """What was found in a repository, and what had to be guessed."""

    name: str
    dockerfile: Dockerfile | None = None
    health: str = ""
    suites: list[Suite] = field(default_factory=list)
    services: list[Hint] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)


def look(folder: Path) -> Seen:
    """Look at the repository at `folder`: its top, and one level below where the top holds no test tool."""
    seen = Seen(_name(folder))
    seen.dockerfile = _dockerfile(folder)
    seen.suites = suites(folder)
    seen.services = hints(folder)
    if seen.dockerfile:
        ports = f", port {seen.dockerfile.ports[0]}" if seen.dockerfile.ports else ", no EXPOSE"
        seen.found.append(f"{seen.dockerfile.path}{ports}")
        seen.health = _health(folder, seen.dockerfile.path)
        if seen.dockerfile.ports and not seen.health:
            seen.guessed.append("no health path was found: / is asked")
    for suite in seen.suites:
        where = f" in {suite.folder}/" if suite.folder else ""
        seen.found.append(f"{suite.title}{where}: {suite.evidence}")
        seen.guessed += suite.guessed
    seen.found += [f"{hint.kind} in {hint.file}" for hint in seen.services]
    if not seen.suites:
        seen.guessed.append("no test tool was found: a stage `check` stands in its place")
    return seen


def _name(folder: Path) -> str:
    raw = folder.resolve().name.lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", raw).strip("-_")
    name = re.sub(r"^[^a-z]+", "", name)
    return name[:63] or "app"


def _dockerfile(folder: Path) -> Dockerfile | None:
    for path in ("Dockerfile", "Containerfile", "docker/Dockerfile", "build/Dockerfile", "deploy/Dockerfile"):
        text = text_of(folder / path)
        if text:
            targets = tuple(t.lower() for t in re.findall(r"(?im)^\s*FROM\s+.+?\s+AS\s+([\w.-]+)", text))
            exposed = re.findall(r"(?im)^\s*EXPOSE\s+(.+)$", text)
            numbers = [int(n) for line in exposed for n in re.findall(r"(?<![\w{])(\d{1,5})(?:/tcp)?(?![\w/])", line)]
            return Dockerfile(path, targets, tuple(n for n in numbers if 0 < n < 65536))
    return None


def _health(folder: Path, dockerfile: str) -> str:
    if found := re.search(r"(?is)HEALTHCHECK.+?" + _LOCAL_URL.pattern, text_of(folder / dockerfile)):
        return found[1]
    for file in _source_files(folder):
        if found := _HEALTH.search(text_of(file)):
            return found[1]
    return ""


def _source_files(folder: Path) -> list[Path]:
    """Return some source files, those near the top first; tests and foreign code are left out."""
    found: list[Path] = []
    todo = [folder]
    while todo and len(found) < 200:
        here = todo.pop(0)
        for name in names(here):
            path = here / name
            if name.endswith(_SOURCES):
                found.append(path)
            elif not name.startswith(_FOREIGN) and len(path.relative_to(folder).parts) < 4 and _is_folder(path):
                todo.append(path)
    return found[:200]


_FOREIGN = (".", "_", "test", "node_modules", "vendor", "venv", "dist", "build", "target")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
