"""What `pipe init` writes is right, has no bad habit, and says what the repository says of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import lint
from pipeline.definition import Definition
from pipeline.loading import loads
from pipeline.scaffold import IMAGES, Scaffold, scaffold
from tests.pipeline.definitions import event, planned


def written(folder: Path, files: dict[str, str], **more: Any) -> tuple[Definition, Scaffold]:
    """Make a repository of these files and return its first definition, which must be right and without warnings."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    made = scaffold(folder, **more)
    loaded = loads(made.text)
    assert lint.warnings(loaded) == []
    assert not [stage for stage in planned(made.text).stages if stage.skip_reason]
    return loaded.definition, made


PYPROJECT = (
    '[project]\nname = "x"\nrequires-python = ">=3.11,<3.14"\n[project.optional-dependencies]\ntest = ["pytest"]\n'
)


@pytest.mark.parametrize(
    ("files", "image", "commands"),
    [
        (
            {"pyproject.toml": PYPROJECT, "tests/test_a.py": "import pytest"},
            "python:3.12-slim",
            ['pip install -e ".[test]"', "python -m pytest --junitxml=reports/unit.xml"],
        ),
        (
            {"requirements.txt": "flask", "tests/test_a.py": "import pytest"},
            "python:3.12-slim",
            ["pip install -r requirements.txt", "pip install pytest", "python -m pytest --junitxml=reports/unit.xml"],
        ),
        (
            {"setup.py": "", "requirements/tests.txt": "pytest==8", "requirements/docs.txt": "", "tests/test_a.py": ""},
            "python:3.12-slim",
            [
                "pip install -r requirements/tests.txt",
                "pip install -e .",
                "python -m pytest --junitxml=reports/unit.xml",
            ],
        ),
        (
            {"pyproject.toml": '[project]\nname="x"\n[dependency-groups]\ntests=["pytest"]\n'},
            "python:3.12-slim",
            [
                "pip install -e .",
                "pip install --upgrade pip && pip install --group tests",
                "python -m pytest --junitxml=reports/unit.xml",
            ],
        ),
        (
            {"setup.py": "", "test_a.py": "import unittest"},
            "python:3.12-slim",
            ["pip install -e .", "python -m unittest discover"],
        ),
        (
            {"uv.lock": "", "pyproject.toml": PYPROJECT},
            "python:3.12-slim",
            ["pip install uv", "uv sync", "uv run pytest --junitxml=reports/unit.xml"],
        ),
        ({"pyproject.toml": '[project]\nname="x"\nrequires-python=">=3.13"\n'}, "python:3.13-slim", None),
        ({"pyproject.toml": '[project]\nname="x"\nrequires-python=">=3.8,<3.11"\n'}, "python:3.10-slim", None),
        (
            {"package.json": '{"scripts": {"test": "jest"}, "engines": {"node": ">=18"}}', "package-lock.json": "{}"},
            "node:22-slim",
            ["npm ci", "npm test"],
        ),
        (
            {"package.json": '{"scripts": {"test": "mocha"}}', "yarn.lock": "", ".nvmrc": "v20.1"},
            "node:20-slim",
            ["corepack enable", "yarn install --frozen-lockfile", "yarn test"],
        ),
        ({"go.mod": "module x\n\ngo 1.23\n"}, "golang:1.23", ["go test ./..."]),
        ({"Cargo.toml": "[package]", "Cargo.lock": ""}, "rust:1.85", ["cargo test --locked"]),
        ({"pom.xml": "<java.version>17</java.version>"}, "maven:3.9-eclipse-temurin-17", ["mvn -B test"]),
        ({"build.gradle.kts": "", "gradlew": ""}, "eclipse-temurin:21-jdk", ["./gradlew test"]),
        ({"Gemfile": "", "spec/a_spec.rb": ""}, "ruby:3.4", ["bundle install", "bundle exec rspec"]),
        (
            {"composer.json": "{}", "phpunit.xml.dist": ""},
            "composer:2.8",
            ["composer install --no-interaction", "vendor/bin/phpunit --log-junit reports/unit.xml"],
        ),
    ],
)  # fmt: skip
def test_a_test_tool_is_known_by_its_files(
    tmp_path: Path, files: dict[str, str], image: str, commands: list[str] | None
) -> None:
    stage = written(tmp_path, files)[0].stages["unit"]
    assert stage.image == image
    assert commands is None or stage.run == commands


def test_a_dockerfile_with_a_port_is_built_pushed_and_put_live(tmp_path: Path) -> None:
    dockerfile = (
        "FROM x AS runtime\nEXPOSE 8000\nHEALTHCHECK CMD curl -f http://localhost:8000/healthz\nFROM x AS test\n"
    )
    definition, made = written(tmp_path, {"Dockerfile": dockerfile, "go.mod": "module x"})
    assert list(definition.stages) == ["image", "unit", "push", "test", "release"]
    assert definition.stages["image"].build is not None
    assert definition.stages["image"].build.target == "runtime"
    assert definition.app is not None
    assert (definition.app.processes["web"].port, definition.app.processes["web"].health.http) == (8000, "/healthz")
    assert made.guessed == ()


def test_a_health_path_is_looked_for_in_the_source_and_else_said_to_be_guessed(tmp_path: Path) -> None:
    definition, _ = written(tmp_path, {"Dockerfile": "FROM x\nEXPOSE 80/tcp\n", "src/app.js": "app.get('/health', f)"})
    assert definition.app is not None
    assert definition.app.processes["web"].health.http == "/health"
    (tmp_path / "src/app.js").write_text("")
    made = scaffold(tmp_path)
    assert "no health path was found: / is asked" in made.guessed
    assert "# guessed: a path that answers 200" in made.text


def test_a_dockerfile_without_a_port_is_pushed_and_says_what_is_missing(tmp_path: Path) -> None:
    definition, made = written(tmp_path, {"docker/Dockerfile": "FROM x\n"})
    assert list(definition.stages) == ["image", "check", "push"]
    assert definition.stages["image"].build is not None
    assert definition.stages["image"].build.dockerfile == "docker/Dockerfile"
    assert "say where it listens (EXPOSE in the Dockerfile)" in made.text


def test_services_are_hinted_by_a_compose_file(tmp_path: Path) -> None:
    compose = """
services:
  web: {build: .}
  Data_Base: {image: "postgres", environment: {POSTGRES_DB: shop, POSTGRES_PASSWORD: real1Password, X: "${Y}"}}
  cache: {image: "redis:${V:-7.2}"}
  queue: {image: "rabbitmq:4"}
"""
    services = written(tmp_path, {"compose.yaml": compose, "go.mod": ""})[0].stages["unit"].services
    assert list(services) == ["data_base", "cache", "queue"]
    assert services["data_base"].image == "postgres:16"
    assert services["data_base"].env == {"POSTGRES_PASSWORD": "test", "POSTGRES_DB": "shop"}
    assert services["cache"].image == "redis:7.2"
    assert all(service.ready for service in services.values())


def test_images_can_be_those_of_the_installation(tmp_path: Path) -> None:
    files = {"go.mod": "go 1.22", "compose.yml": "services: {db: {image: postgres}}"}
    own = {"go": "local/go:{version}", "postgres": "local/postgres:15"}
    stage = written(tmp_path, files, images=own)[0].stages["unit"]
    assert (stage.image, stage.services["db"].image) == ("local/go:1.22", "local/postgres:15")


def test_a_repository_without_anything_still_gets_a_definition_that_runs(tmp_path: Path) -> None:
    definition, made = written(tmp_path, {}, images={"any": "pipewright/debian:12"})
    assert definition.stages["check"].image == "pipewright/debian:12"
    assert made.guessed == ("no test tool was found: a stage `check` stands in its place",)


def test_suites_of_folders_get_stages_of_their_own(tmp_path: Path) -> None:
    files = {"api/go.mod": "", "web/package.json": '{"scripts": {"test": "x"}}', "web/package-lock.json": ""}
    stages = written(tmp_path, files)[0].stages
    assert {name: stage.workdir for name, stage in stages.items()} == {"unit-api": "api", "unit-web": "web"}
    assert stages["unit-web"].cache[0].key.files == ["web/package-lock.json"]


def test_two_languages_at_the_top_get_two_stages(tmp_path: Path) -> None:
    files = {"go.mod": "", "Gemfile": "", "Dockerfile": "FROM x\nEXPOSE 80"}
    definition, _ = written(tmp_path, files)
    assert list(definition.stages)[:4] == ["image", "unit", "unit-ruby", "push"]
    assert [need.stage for need in definition.stages["push"].needs or ()] == ["image", "unit", "unit-ruby"]


@pytest.mark.parametrize("name", ["My Shop!", "3d", "ünï", "-", "a" * 99])
def test_any_folder_gives_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert written(tmp_path / name, {})[0].name


@pytest.mark.parametrize(
    "files",
    [
        {"package.json": "[]"},
        {"package.json": "{"},
        {"package.json": "[" * 100_000},
        {"package.json": '{"scripts": {"test": ["x"]}, "engines": 3}'},
        {"pyproject.toml": "= ="},
        {"pyproject.toml": '[project]\noptional-dependencies = 3\ndependency-groups = "x"\nrequires-python = [1]'},
        {"compose.yml": "services: 3"},
        {"compose.yml": "a: *b"},
        {"compose.yml": "services: {db: {image: postgres, environment: [A, 'B=1', {c: d}]}}", "go.mod": ""},
        {"Dockerfile": "FROM $X AS \nEXPOSE $PORT 99999 80-90\nEXPOSE ${P}8000"},
        {"go.mod": "go 99999999999.1"},
    ],
)
def test_odd_files_are_no_reason_to_fail(tmp_path: Path, files: dict[str, str]) -> None:
    written(tmp_path, files)


def test_pipes_and_links_in_circles_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "package.json")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "requirements.txt").mkdir()
    (tmp_path / "pyproject.toml").mkdir()
    (tmp_path / "Dockerfile").symlink_to("Dockerfile")
    assert list(written(tmp_path, {})[0].stages) == ["unit"]  # a folder may bear any name


@given(st.text(max_size=40), st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
@settings(derandomize=True, max_examples=80, deadline=None)
def test_any_content_gives_a_definition_that_is_right(tmp_path_factory: Any, service: str, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    compose = {"services": {service: {"image": "postgres:16", "environment": {"A": text, "POSTGRES_DB": text}}}}
    package = {"scripts": {"test": text or "x"}, "engines": {"node": text}}
    written(folder, {"compose.yaml": json.dumps(compose), "package.json": json.dumps(package), "Dockerfile": text})


def test_every_language_has_an_image_with_a_version() -> None:
    assert all(":" in image for image in IMAGES.values())
    assert event().branch == "main"
