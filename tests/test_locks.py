"""The lock files are what `pyproject.toml` asks for: complete, hashed, of one mind, and without any address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pins(lock: str) -> dict[str, str]:
    """Return name -> version of everything that a lock file pins."""
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def asked(*, dev: bool) -> list[Requirement]:
    """Return what the project asks for: to run and be installed, and for development also tools and extras."""
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    if dev:
        texts += PROJECT["dependency-groups"]["dev"]
        texts += [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_what_the_project_asks_for(lock):
    pinned = pins(lock)
    for wanted in asked(dev="dev" in lock):
        version = pinned.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not in {lock}: make lock"
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} is {version} in {lock}: make lock"


def test_tools_are_tested_with_the_versions_that_run():
    run, dev = pins(LOCKS[0]), pins(LOCKS[1])
    assert run.items() <= dev.items(), "the locks differ: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock):
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock))
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?:index-url|extra-index-url|find-links|trusted-host)", text, re.MULTILINE)
