"""Test tools by the files that they leave: how to install what they need, and how to run them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.scaffold.sources import names, text_of

# Public images by language; a caller may give others. `{version}` is what the repository asks for.
IMAGES: dict[str, str] = {
    "python": "python:{version}-slim",
    "node": "node:{version}-slim",
    "go": "golang:{version}",
    "rust": "rust:{version}",
    "maven": "maven:3.9-eclipse-temurin-{version}",
    "gradle": "eclipse-temurin:{version}-jdk",
    "ruby": "ruby:{version}",
    "php": "composer:2.8",
    "any": "debian:12-slim",
}


@dataclass
class Suite:
    """One test suite: which image it wants and which commands, in which folder."""

    name: str  # of the stage
    title: str  # for people
    image: str  # key of IMAGES
    version: str
    commands: list[str]
    evidence: str
    folder: str = ""
    cache: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # paths, files of the key
    junit: str = ""
    guessed: list[str] = field(default_factory=list)


def suites(folder: Path) -> list[Suite]:
    """Return the test suites at the top of a repository, else those of its direct folders."""
    found = _at(folder, "")
    if not found:
        for name in names(folder):
            if not name.startswith(".") and (folder / name).is_dir() and not (folder / name).is_symlink():
                found += _at(folder / name, name)
    return found[:6]


def _at(folder: Path, shown: str) -> list[Suite]:
    files = set(names(folder))
    found = [suite for look in _LOOKS if (suite := look(folder, files))]
    for suite in found:
        suite.folder = shown
        if shown:
            suite.name = re.sub(r"[^a-z0-9_-]", "-", f"{suite.name}-{shown.lower()}")[:63]
    return found


# --- Python ---------------------------------------------------------------------------------------------------------

_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "pytest.ini", "noxfile.py", "requirements.txt")


def _python(folder: Path, files: set[str]) -> Suite | None:
    has_tests = "tests" in files or "test" in files or any(re.fullmatch(r"test_\w+\.py|\w+_test\.py", f) for f in files)
    evidence = [name for name in _PYTHON_FILES if name in files]
    if not evidence and not (has_tests and any(f.endswith(".py") for f in files | set(names(folder / "tests")))):
        return None
    project = _toml(text_of(folder / "pyproject.toml"))
    texts = "\n".join(text_of(folder / f) for f in sorted(files) if f in _PYTHON_FILES or f.startswith("requirements"))
    texts += "\n".join(text_of(folder / "requirements" / name) for name in names(folder / "requirements"))
    texts += "\n".join(text_of(p) for p in _first_tests(folder))
    version = _python_version(project, texts)
    install, cache_key = _python_install(folder, files, project)
    pytest = bool(re.search(r"\bpytest\b", texts))
    if "uv.lock" in files:
        run = ["uv run pytest --junitxml=reports/unit.xml" if pytest else "uv run python -m unittest"]
    elif "poetry.lock" in files:
        run = ["poetry run pytest --junitxml=reports/unit.xml" if pytest else "poetry run python -m unittest"]
    elif pytest:
        install += [] if _asks_for_pytest(folder, files, project, install) else ["pip install pytest"]
        run = ["python -m pytest --junitxml=reports/unit.xml"]
    else:
        run = ["python -m unittest discover" + (" -s tests" if "tests" in files and "__init__.py" not in
               names(folder / "tests") else "")]  # fmt: skip
    suite = Suite("unit", "Python tests", "python", version, [*install, *run], ", ".join(evidence[:3]) or "tests/")
    suite.cache = (("~/.cache/pip",), cache_key)
    suite.junit = "reports/*.xml" if "junitxml" in run[0] else ""
    if pytest and not has_tests:
        suite.guessed.append("no folder `tests` was found; pytest looks for tests itself")
    return suite


def _first_tests(folder: Path) -> list[Path]:
    found = []
    for place in (folder / "tests", folder / "test", folder):
        found += [place / name for name in names(place) if re.fullmatch(r"(test_\w+|\w+_test|conftest)\.py", name)]
    return found[:12]


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _dig(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _python_version(project: dict[str, Any], texts: str) -> str:
    wanted = _dig(project, "project", "requires-python") or _dig(project, "tool", "poetry", "dependencies", "python")
    upper = re.search(r"<\s*3\.(\d+)", str(wanted or ""))
    lower = re.search(r"(?:>=|~=|\^|==)\s*3\.(\d+)", str(wanted or ""))
    best = min(12, int(upper[1]) - 1) if upper else 12
    return f"3.{max(best, int(lower[1])) if lower else best}"


def _python_install(folder: Path, files: set[str], project: dict[str, Any]) -> tuple[list[str], tuple[str, ...]]:
    if "uv.lock" in files:
        return ["pip install uv", "uv sync"], ("uv.lock",)
    if "poetry.lock" in files:
        return ["pip install poetry", "poetry install"], ("poetry.lock",)
    commands, key = [], []
    listed = [f for f in sorted(files) if re.fullmatch(r"requirements[\w-]*\.txt", f)]
    listed += [f"requirements/{name}" for name in names(folder / "requirements") if name.endswith(".txt")]
    listed += [f"tests/{name}" for name in names(folder / "tests") if re.fullmatch(r"requirements[\w-]*\.txt", name)]
    tests = [name for name in listed if re.search(r"\btests?\b|-tests?\b", name)]
    tests = tests or [name for name in listed if re.search(r"\bdev\b|-dev\b", name)]
    for name in ["requirements.txt", *tests] if "requirements.txt" in listed else tests:
        commands.append(f"pip install -r {name}")
        key.append(name)
    extra = group = ""
    if _dig(project, "project", "name") or "setup.py" in files or _dig(project, "tool", "poetry", "name"):
        extra = _first_of(_dig(project, "project", "optional-dependencies"))
        commands.append(f'pip install -e ".[{extra}]"' if extra else "pip install -e .")
        key += [name for name in ("pyproject.toml", "setup.py") if name in files]
    if not extra and (group := _first_of(_dig(project, "dependency-groups"))):
        commands.append(f"pip install --upgrade pip && pip install --group {group}")
    return commands, tuple(dict.fromkeys(key)) or ("pyproject.toml",)


def _first_of(named: Any) -> str:
    """Return the name under which a project lists what its tests need, or an empty string."""
    wanted = ("test", "tests", "testing", "dev")
    return next((name for name in wanted if isinstance(named, dict) and name in named), "")


def _asks_for_pytest(folder: Path, files: set[str], project: dict[str, Any], install: list[str]) -> bool:
    """Tell whether what is installed brings pytest: a wanted extra, group or requirements file names it."""
    text = "\n".join(text_of(folder / command.split()[-1]) for command in install if " -r " in command)
    for name in ("test", "tests", "testing", "dev"):
        if any(f"[{name}]" in command for command in install):
            text += json.dumps(_dig(project, "project", "optional-dependencies", name) or "", default=str)
        if any(command.endswith(f"--group {name}") for command in install):
            text += json.dumps(_dig(project, "dependency-groups", name) or "", default=str)
    return bool(re.search(r"\bpytest\b(?!-)", text))


# --- the others -----------------------------------------------------------------------------------------------------


def _node(folder: Path, files: set[str]) -> Suite | None:
    if "package.json" not in files:
        return None
    try:
        package = json.loads(text_of(folder / "package.json"))
    except (ValueError, RecursionError):
        return None
    script = _dig(package, "scripts", "test")
    if not isinstance(script, str) or "no test specified" in script:
        return None
    wanted = str(_dig(package, "engines", "node") or text_of(folder / ".nvmrc"))
    numbers = [int(n) for n in re.findall(r"(?<![.\d])v?(\d{2})(?!\d)", wanted)]
    version = str(max([22, *numbers]) if ">" in wanted else numbers[0] if numbers else 22)
    lock, install, run = next(
        (row for row in _NODE_TOOLS if row[0] in files), ("package.json", ["npm install"], "npm test")
    )
    suite = Suite("unit", "Node tests", "node", version, [*install, run], f"package.json, {script[:40]}")
    suite.cache = (("~/.npm",), (lock,))
    return suite


_NODE_TOOLS = (
    ("package-lock.json", ["npm ci"], "npm test"),
    ("npm-shrinkwrap.json", ["npm ci"], "npm test"),
    ("pnpm-lock.yaml", ["corepack enable", "pnpm install --frozen-lockfile"], "pnpm test"),
    ("yarn.lock", ["corepack enable", "yarn install --frozen-lockfile"], "yarn test"),
)


def _go(folder: Path, files: set[str]) -> Suite | None:
    if "go.mod" not in files:
        return None
    found = re.search(r"(?m)^go (\d+\.\d+)", text_of(folder / "go.mod"))
    suite = Suite("unit", "Go tests", "go", found[1] if found else "1.24", ["go test ./..."], "go.mod")
    suite.cache = (("/go/pkg/mod", "~/.cache/go-build"), ("go.sum",) if "go.sum" in files else ("go.mod",))
    return suite


def _rust(folder: Path, files: set[str]) -> Suite | None:
    if "Cargo.toml" not in files:
        return None
    locked = "Cargo.lock" in files
    run = "cargo test --locked" if locked else "cargo test"
    suite = Suite("unit", "Rust tests", "rust", "1.85", [run], "Cargo.toml")
    suite.cache = (("/usr/local/cargo/registry",), ("Cargo.lock",) if locked else ("Cargo.toml",))
    return suite


def _java(folder: Path, files: set[str]) -> Suite | None:
    if "pom.xml" in files:
        found = re.search(r"<(?:maven\.compiler\.(?:release|source)|java\.version)>\s*(?:1\.)?(\d+)",
                          text_of(folder / "pom.xml"))  # fmt: skip
        version = _java_version(found)
        run = "./mvnw -B test" if "mvnw" in files else "mvn -B test"
        suite = Suite("unit", "Maven tests", "maven", version, [run], "pom.xml", junit="**/surefire-reports/*.xml")
        suite.cache = (("~/.m2/repository",), ("pom.xml",))
        return suite
    build = next((f for f in ("build.gradle", "build.gradle.kts") if f in files), "")
    if not build or "gradlew" not in files:
        return None
    found = re.search(r"(?:JavaLanguageVersion\.of\(|sourceCompatibility\s*=\s*\D{0,20})(\d+)", text_of(folder / build))
    suite = Suite("unit", "Gradle tests", "gradle", _java_version(found), ["./gradlew test"], build)
    suite.junit = "**/test-results/test/*.xml"
    suite.cache = (("~/.gradle/caches",), (build,))
    return suite


def _java_version(found: re.Match[str] | None) -> str:
    return str(next((lts for lts in (11, 17, 21) if found and int(found[1]) <= lts), 21))


def _ruby(folder: Path, files: set[str]) -> Suite | None:
    if "Gemfile" not in files:
        return None
    found = re.search(r"\d+\.\d+", text_of(folder / ".ruby-version"))
    run = "bundle exec rspec" if "spec" in files else "bundle exec rake test"
    suite = Suite("unit", "Ruby tests", "ruby", found[0] if found else "3.4", ["bundle install", run], "Gemfile")
    suite.cache = (("/usr/local/bundle",), ("Gemfile.lock",) if "Gemfile.lock" in files else ("Gemfile",))
    return suite


def _php(folder: Path, files: set[str]) -> Suite | None:
    if "composer.json" not in files or not any(f.startswith("phpunit.xml") for f in files):
        return None
    commands = ["composer install --no-interaction", "vendor/bin/phpunit --log-junit reports/unit.xml"]
    suite = Suite("unit", "PHP tests", "php", "", commands, "composer.json", junit="reports/*.xml")
    suite.cache = (("~/.composer/cache",), ("composer.lock",) if "composer.lock" in files else ("composer.json",))
    return suite


_LOOKS: tuple[Callable[[Path, set[str]], Suite | None], ...] = (_python, _node, _go, _rust, _java, _ruby, _php)
