"""The scripts of the house can be read, say what they are for, and ask nobody anything; `make help` lists them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    path
    for folder in (".ci", ".ci/image-files", "tests")
    for path in (ROOT / folder).iterdir()
    if path.is_file() and (path.suffix == ".sh" or re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes()))
)
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_script
def test_a_script_is_well_formed(script):
    shell = "sh" if script.read_text().startswith("#!/bin/sh") else "bash"
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@every_script
def test_a_script_says_what_it_is_for(script):
    words = [line for line in script.read_text().splitlines()[:4] if re.match(r"# [A-Z]", line)]
    assert words, "it begins with a comment that says what it is for"


@every_script
def test_a_script_asks_nobody(script):
    assert not re.search(r"\bread -r?p\b|\bselect \w+ in\b", script.read_text())


def test_a_script_that_is_run_may_be_run():
    for script in SCRIPTS:
        assert os.access(script, os.X_OK) == script.read_text().startswith("#!"), script


def test_make_help_lists_every_target_that_people_use():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"setup-dev"}
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in said.splitlines()} == targets


def test_setting_up_where_nothing_can_be_installed_names_all_that_is_missing(tmp_path):
    """A PATH with the bare tools only, and no right to install: what an ordinary user meets on a fresh machine."""
    for tool in ("bash", "dirname", "id", "cat", "env", "python3"):
        found = next(Path(folder) / tool for folder in ("/usr/bin", "/bin") if (Path(folder) / tool).exists())
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "id").unlink()
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([ROOT / ".ci/setup"], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "Docker Engine 23 or newer" in done.stderr
    assert "make setup" in done.stderr
    assert done.stdout == ""
