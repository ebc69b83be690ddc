"""The laws of the house, read from the source with `ast`: who may import whom, and what stands where.

A law that is broken names the file and the line. What the code does is tested elsewhere.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "runners", "webhooks")
ROOF = "pipeline.cli"
LONGEST = 350

# library -> where it may be imported; a trailing dot means everything below
ADDRESSES = {
    "flask": ("webhooks.",),
    "jinja2": ("webhooks.",),
    "werkzeug": ("webhooks.",),
    "gunicorn": ("webhooks.",),
    "prometheus_client": ("webhooks.",),
    "docker": ("runners.",),
    "git": ("runners.",),
    "subprocess": ("runners.process",),
    "click": (f"{ROOF}.",),
    "rich": (f"{ROOF}.",),
    "yaml": ("pipeline.",),
    "pydantic": ("pipeline.",),
    "cel_expr_python": ("pipeline.expressions",),
    "junitparser": ("pipeline.reports", "pipeline.reports."),
    "defusedxml": ("pipeline.reports", "pipeline.reports."),
    "apscheduler": ("pipeline.scheduler",),
    "sqlalchemy": ("pipeline.",),
    "alembic": ("pipeline.",),
    "psycopg": ("pipeline.",),
}
# The ground: values in, values out. Neither a database nor a terminal is known there.
GROUND = {
    *("model", "errors", "settings", "faults", "definition", "yamltree", "loading", "expressions", "plan"),
    *("triggers", "lint", "jsonschema", "graph", "explain", "scaffold", "reports", "masking"),
    *("vocabulary", "occasions", "serving", "policy", "mistakes", "wording", "positions", "salvage", "files"),
    *("includes", "inputs", "matrix", "checks"),
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}
# Names of package registries, in two parts so that this file does not hold them.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb.debian", "org"),
        ("rubygems", "org"),
        ("crates", "io"),
        ("proxy.golang", "org"),
    )
]


@dataclass
class Module:
    """One source file and what it imports: (name, line), with imports for type checkers apart."""

    name: str
    path: Path
    tree: ast.Module
    imports: list[tuple[str, int]] = field(default_factory=list)
    only_types: list[tuple[str, int]] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))


def _sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _read(path: Path) -> Module:
    module = Module(_name(path), path, ast.parse(path.read_text(encoding="utf-8")))

    def walk(node: ast.AST, into: list[tuple[str, int]]) -> None:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import():
                    into.extend((alias.name, child.lineno) for alias in child.names)
                case ast.ImportFrom():
                    assert child.level == 0, f"{module.shown}:{child.lineno}: imports are written in full"
                    into.extend((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
                case ast.If() if _for_types(child):
                    walk(child, module.only_types)
                case _:
                    walk(child, into)

    walk(module.tree, module.imports)
    return module


MODULES = {module.name: module for module in map(_read, _sources())}


def _module_of(imported: str) -> str | None:
    """Return our module that `imported` means: itself, or the one that holds the name."""
    if imported in MODULES:
        return imported
    parent = imported.rpartition(".")[0]
    return parent if parent in MODULES else None


def _within(name: str, place: str) -> bool:
    return name.startswith(place) or name == place.rstrip(".") if place.endswith(".") else name == place


def _is_roof(name: str) -> bool:
    return _within(name, f"{ROOF}.") or name == "pipeline.__main__"


def _broken(module: Module, imported: str) -> str:
    """Return why `module` may not import `imported`, or an empty string."""
    room, target = module.name.partition(".")[0], imported.partition(".")[0]
    if _is_roof(imported) and not _is_roof(module.name):
        return "nobody imports the roof"
    if _is_roof(module.name) or target not in ROOMS or target == room:
        return ""
    if target == "pipeline":
        return ""
    return f"{room} may not import {target}"


def test_imports_go_downward_and_the_wall_between_runners_and_webhooks_holds() -> None:
    broken = [
        f"{module.shown}:{line}: {imported}: {why}"
        for module in MODULES.values()
        for imported, line in module.imports + module.only_types
        if (why := _broken(module, imported))
    ]
    assert broken == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module.name: {
            found for imported, _ in module.imports if (found := _module_of(imported)) not in (None, module.name)
        }
        for module in MODULES.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("library", ADDRESSES)
def test_a_library_is_imported_at_its_address_only(library: str) -> None:
    broken = [
        f"{module.shown}:{line}: {imported}"
        for module in MODULES.values()
        for imported, line in module.imports + module.only_types
        if imported.partition(".")[0] == library
        and not any(_within(module.name, place) for place in ADDRESSES[library])
    ]
    assert broken == []


def test_the_ground_and_the_roof_know_no_database() -> None:
    broken = [
        f"{module.shown}:{line}: {imported}"
        for module in MODULES.values()
        if _is_roof(module.name) or (module.name.startswith("pipeline.") and module.name.split(".")[1] in GROUND)
        for imported, line in module.imports + module.only_types
        if imported.partition(".")[0] in ("sqlalchemy", "alembic", "psycopg", "sqlite3")
    ]
    assert broken == []


def _uses(module: Module, names: set[str]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            yield f"{module.shown}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in names:
                    yield f"{module.shown}:{node.lineno}: {node.module}.{alias.name}"


def test_only_settings_reads_the_environment() -> None:
    names = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    assert [use for m in MODULES.values() if m.name != "pipeline.settings" for use in _uses(m, names)] == []


def test_programs_are_started_in_one_place() -> None:
    calls = {f"os.{call}" for call in ("system", "popen", "fork", "forkpty", "posix_spawn", "spawnv", "spawnve")}
    calls |= {f"os.exec{suffix}" for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")} | {"pty.spawn"}
    assert [use for m in MODULES.values() if m.name != "runners.process" for use in _uses(m, calls)] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [m.shown for m in MODULES.values() if len(ast.get_docstring(m.tree) or "") < 20]
    assert silent == []


def test_no_file_is_longer_than_a_reader_bears() -> None:
    long = {m.shown: n for m in MODULES.values() if (n := len(m.path.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [m.shown for m in MODULES.values() if NAMELESS & set(m.name.split("."))] == []


def _tracked() -> list[Path]:
    found = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if found.returncode == 0:
        return [ROOT / name for name in found.stdout.decode().split("\0") if name]
    hidden = {".git", ".venv", ".pipe", "node_modules"}  # an unpacked archive: no repository to ask
    return [path for path in ROOT.rglob("*") if path.is_file() and not hidden & set(path.relative_to(ROOT).parts)]


def test_no_file_names_a_package_registry() -> None:
    broken = []
    for path in _tracked():
        if not path.is_file() or path.stat().st_size > 2_000_000:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        broken += [f"{path.relative_to(ROOT)}: {name}" for name in REGISTRIES if name in text]
    assert broken == []
