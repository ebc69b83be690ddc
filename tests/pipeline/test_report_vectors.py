"""Reports of other projects, read under our policy, against the totals that those projects' own tests state.

Every difference stands in `DIFFERENCES` with the sentence of docs/reference/test-reports.md that explains it, and the
sentence is looked up there. Where no total is stated, an independent count of elements takes its place.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.reports import Case, Reading, Report
from pipeline.reports.read import read

PROJECT = Path(__file__).parents[2]
POLICY = (PROJECT / "docs/reference/test-reports.md").read_text()
COUNTED = ("tests", "failed", "skipped", "passed")

RETRY = "A retry is a failure followed by another attempt of the same id in the same report."
NEVER_AFTER_A_PASS = "Nothing is retried after it passed."
BROKEN = "An unreadable report is never green."
DISABLED = "or `status` one of `disabled` `notrun` `skipped` `ignored` `suppressed` `pending`, without a failure"

# file: ({what: (theirs, ours)}, the policy that explains it). "Theirs" is the project's own figure where it states one.
DIFFERENCES: dict[str, tuple[dict[str, tuple[int, int]], str]] = {
    "mikepenz/flaky_retries__flaky_success_first.xml": (
        {"tests": (1, 2), "failed": (0, 1)},
        NEVER_AFTER_A_PASS,
    ),
    "mikepenz/junit-web-test__expected.xml": ({"tests": (6, 0), "skipped": (1, 0)}, BROKEN),
    "mikepenz/junit-web-test__expectedRetries.xml": ({"tests": (8, 0), "skipped": (1, 0)}, BROKEN),
}
# The same against the plain count of elements, which knows no retries and no attributes.
ELEMENT_DIFFERENCES: dict[str, tuple[dict[str, tuple[int, int]], str]] = {
    "mikepenz/flaky_retries__flaky_all_failures.xml": ({"tests": (3, 1), "failed": (3, 1)}, RETRY),
    "mikepenz/flaky_retries__flaky_success_first.xml": ({"tests": (3, 2), "failed": (2, 1)}, RETRY),
    "mikepenz/flaky_retries__flaky_with_classname_file.xml": ({"tests": (5, 3), "failed": (2, 0)}, RETRY),
    "mikepenz/junit-server-test__report.xml": ({"tests": (4, 3), "failed": (1, 0)}, RETRY),
    "mikepenz/issues__testDisabled.xml": ({"skipped": (0, 10), "passed": (16, 6)}, DISABLED),
}


def vectors() -> Path:
    """Find the vectors beside the project or above it."""
    for place in (PROJECT.parent, PROJECT.parent.parent):
        if (place / "shared/vectors/junit/MANIFEST.json").is_file():
            return place / "shared/vectors/junit"
    return PROJECT.parent / "shared/vectors/junit"


def manifest() -> list[dict[str, Any]]:
    listed = vectors() / "MANIFEST.json"
    return json.loads(listed.read_text()) if listed.is_file() else []


ENTRIES = {entry["file"]: entry for entry in manifest()}
# They are other people's files and not part of this project: a clone that stands alone does without them.
needs_vectors = pytest.mark.skipif(not vectors().is_dir(), reason=f"no test reports of other projects in {vectors()}")
pytestmark = needs_vectors
every_vector = pytest.mark.parametrize("name", sorted(ENTRIES))


def report_of(name: str) -> tuple[Report, list[Case]]:
    cases: list[Case] = []
    with (vectors() / name).open("rb") as stream:
        return read(stream, name, cases.extend), cases


def ours(report: Report) -> dict[str, int]:
    totals = report.totals
    return {
        "tests": totals.tests,
        "failed": totals.failed + totals.errors,
        "skipped": totals.skipped,
        "passed": totals.passed + totals.flaky,
    }


def differing(theirs: dict[str, int], report: Report) -> dict[str, tuple[int, int]]:
    mine = ours(report)
    return {what: (theirs[what], mine[what]) for what in COUNTED if what in theirs and theirs[what] != mine[what]}


def test_the_vectors_are_there() -> None:
    assert len(ENTRIES) >= 61, f"test reports of other projects are expected in {vectors()}"


@every_vector
def test_the_bytes_are_those_that_the_manifest_describes(name: str) -> None:
    data = (vectors() / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == ENTRIES[name]["independent"]["sha256"]


@every_vector
def test_totals_are_those_its_own_project_states(name: str) -> None:
    expected = dict(ENTRIES[name].get("third_party_expected") or {})
    if "total" in expected:
        expected["tests"] = expected["total"]
    if "annotated_failures" in expected:
        expected["failed"] = expected["annotated_failures"]
    report, _ = report_of(name)
    assert differing(expected, report) == DIFFERENCES.get(name, ({}, ""))[0]
    assert expected.get("result") != "success" or Reading((report,)).verdict() is None


@every_vector
def test_totals_are_those_of_an_independent_count_of_elements(name: str) -> None:
    counted = ENTRIES[name]["independent"].get("counts") or {}
    results = {"failed": ("with_failure", "with_error"), "skipped": ("with_skipped",), "passed": ("plain_pass",)}
    theirs = {what: sum(counted.get(key, 0) for key in keys) for what, keys in results.items()}
    theirs["tests"] = counted.get("cases", 0)
    if counted.get("multi_result_children"):
        del theirs["failed"]  # a case with a failure and an error is in both counts
    report, _ = report_of(name)
    assert differing(theirs, report) == ELEMENT_DIFFERENCES.get(name, ({}, ""))[0]


@every_vector
def test_a_report_is_broken_exactly_when_it_is_not_well_formed(name: str) -> None:
    report, _ = report_of(name)
    assert (report.broken is None) == ENTRIES[name]["independent"]["well_formed"]
    assert report.broken is None or str(report.broken).startswith(f"{name}: it is ")


@every_vector
def test_cases_and_totals_agree_and_ids_are_distinct(name: str) -> None:
    report, cases = report_of(name)
    assert len(cases) == report.totals.tests == len({case.id for case in cases})
    assert all(case.message for case in cases if case.status.bad)


@pytest.mark.parametrize("name", [*DIFFERENCES, *ELEMENT_DIFFERENCES])
def test_every_difference_is_explained_by_a_sentence_of_the_policy(name: str) -> None:
    for table in (DIFFERENCES, ELEMENT_DIFFERENCES):
        if name in table:
            assert table[name][1] in POLICY
            assert name in ENTRIES
