"""Reports small enough to read, and their cases, for the tests of the policy."""

from __future__ import annotations

import io
from pathlib import Path

from pipeline.reports import Case, Limits, Reading, Report
from pipeline.reports.read import read
from pipeline.reports.workspace import read_all


def parsed(document: str | bytes, **limits: int) -> tuple[Report, list[Case]]:
    """Read a whole document."""
    cases: list[Case] = []
    data = document.encode() if isinstance(document, str) else document
    return read(io.BytesIO(data), "r.xml", cases.extend, limits=Limits(**limits)), cases


def suite(inner: str, **attributes: str) -> str:
    """Put cases into a suite."""
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<testsuites><testsuite{said}>{inner}</testsuite></testsuites>"


def only(inner: str, **attributes: str) -> Case:
    """Read a document of one case."""
    report, cases = parsed(suite(inner, **attributes))
    assert report.broken is None
    assert len(cases) == 1
    return cases[0]


def case(result: str = "", name: str = "t", **attributes: str) -> str:
    said = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<testcase classname="c" name="{name}"{said}>{result}</testcase>'


def lay(root: Path, *names: str, document: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(document or suite(case(name=name)))


def reading(root: Path, *patterns: str, **limits: int) -> tuple[Reading, list[Case]]:
    cases: list[Case] = []
    return read_all(root, patterns, cases.extend, limits=Limits(**limits)), cases


FAIL, ERROR, PASS, SKIP = "<failure message='f'>d</failure>", "<error message='e'>d</error>", "", "<skipped/>"
