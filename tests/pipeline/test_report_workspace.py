"""Which files of a workspace are read as reports, and the verdict on their stage.

Links, devices and patterns that would leave the workspace are tried on a real file system.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.reports import Finding, Reading, Status, Totals
from pipeline.reports.workspace import read_all
from tests.pipeline.small_reports import FAIL, SKIP, case, lay, parsed, reading, suite


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("r/a.xml", ["r/a.xml"]),
        ("./r//a.xml", ["r/a.xml"]),
        ("r/*.xml", ["r/a.xml", "r/b.xml"]),
        ("r/[b-z].xml", ["r/b.xml"]),
        ("r/?.xml", ["r/a.xml", "r/b.xml"]),
        ("*/deep/*/c.xml", ["r/deep/x/c.xml"]),
        ("**/c.xml", ["r/deep/c.xml", "r/deep/x/c.xml"]),
        ("**/deep/**/*.xml", ["r/deep/c.xml", "r/deep/x/c.xml"]),
        ("r/**", ["r/a.xml", "r/b.xml", "r/deep/c.xml", "r/deep/x/c.xml"]),
        ("**/**/a.xml", ["r/a.xml"]),
    ],
)
def test_patterns_name_files_of_the_workspace(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    lay(tmp_path, "r/a.xml", "r/b.xml", "r/deep/c.xml", "r/deep/x/c.xml", ".git/a.xml")
    result, cases = reading(tmp_path, pattern)
    assert [report.path for report in result.reports] == expected
    assert [found.name for found in cases] == expected
    assert result.verdict() is None


def test_a_file_that_two_patterns_match_is_read_once(tmp_path: Path) -> None:
    lay(tmp_path, "r/a.xml", "r/b.xml")
    result, _ = reading(tmp_path, "r/a.xml", "r/*.xml")
    assert result.totals == Totals(tests=2, passed=2)


def test_a_report_that_is_not_there_is_named_with_pattern_and_directory(tmp_path: Path) -> None:
    lay(tmp_path, "r/a.xml")
    result, _ = reading(tmp_path, "r/a.xml", "reports/*.xml")
    said = result.verdict()
    assert said is not None
    assert said.startswith(f"reports/*.xml: no test report matches this pattern in {tmp_path}: check that ")


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../x.xml", "r/../../x.xml", "", "."])
def test_a_pattern_never_leaves_the_workspace(tmp_path: Path, pattern: str) -> None:
    lay(tmp_path, "x.xml", "w/r/a.xml")
    result, cases = reading(tmp_path / "w", pattern)
    assert cases == []
    assert "leaves the workspace" in result.findings[0].what


def test_no_link_is_followed(tmp_path: Path) -> None:
    lay(tmp_path, "secret/outside.xml", "w/r/a.xml")
    work = tmp_path / "w"
    (work / "r/link.xml").symlink_to(tmp_path / "secret/outside.xml")
    (work / "r/inner.xml").symlink_to("a.xml")
    (work / "dir").symlink_to(tmp_path / "secret")
    result, cases = reading(work, "r/*.xml", "dir/outside.xml", "**/outside.xml", "*/outside.xml")
    assert [found.name for found in cases] == ["w/r/a.xml"]
    assert [(finding.file, finding.what.partition(",")[0]) for finding in result.findings] == [
        ("r/inner.xml", "it is a symbolic link"),
        ("r/link.xml", "it is a symbolic link"),
        ("dir", "it is a symbolic link"),
        ("**/outside.xml", f"no test report matches this pattern in {work}"),
        ("*/outside.xml", f"no test report matches this pattern in {work}"),
    ]


def test_a_directory_that_becomes_a_link_before_it_is_opened_is_not_followed(tmp_path: Path) -> None:
    lay(tmp_path, "secret/b.xml", "w/r/a.xml", "w/r/b.xml")
    work = tmp_path / "w"

    def swap(cases: object) -> None:
        (work / "r").rename(work / "was")
        (work / "r").symlink_to(tmp_path / "secret")

    result = read_all(work, ["r/*.xml"], swap)
    assert [bool(report.broken) for report in result.reports] == [False, True]
    assert "symbolic link" in result.findings[0].what


def test_devices_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    result, _ = reading(tmp_path, "*.xml")
    assert result.findings == (
        Finding("pipe.xml", "it is not a regular file", "let the commands write the report itself as a plain file"),
    )


def test_a_file_name_can_not_write_to_the_terminal(tmp_path: Path) -> None:
    lay(tmp_path, "a\x1b[2J\n.xml", document="<x/>")
    (tmp_path / os.fsdecode(b"\xff.xml")).write_text(suite(case()))
    result, _ = reading(tmp_path, "*.xml")
    assert {report.path for report in result.reports} == {"a\ufffd[2J\ufffd.xml", "\ufffd.xml"}


def test_too_many_files_are_a_finding(tmp_path: Path) -> None:
    lay(tmp_path, *(f"{i}.xml" for i in range(6)))
    result, cases = reading(tmp_path, "*.xml", files=5)
    assert cases == []
    assert "more than 5 files" in result.findings[0].what


@pytest.mark.parametrize("limits", [{"total": 250}, {"cases": 2}])
def test_many_files_share_one_budget(tmp_path: Path, limits: dict[str, int]) -> None:
    lay(tmp_path, *(f"{i}.xml" for i in range(6)))
    result, cases = reading(tmp_path, "*.xml", **limits)
    assert len(cases) == 2
    assert len(result.findings) == 4
    assert "the reports before it hold 2 tests" in result.findings[0].what


def test_many_files_share_the_room_for_text(tmp_path: Path) -> None:
    lay(tmp_path, "a.xml", "b.xml", document=suite(case(f"<failure message='m'>{'x' * 1000}</failure>")))
    _, cases = reading(tmp_path, "*.xml", kept=1500)
    assert [len(found.detail) == 1000 for found in cases] == [True, False]


def test_a_file_that_is_gone_when_it_is_opened_is_a_finding(tmp_path: Path) -> None:
    lay(tmp_path, "a.xml", "b.xml")
    result = read_all(tmp_path, ["*.xml"], lambda cases: (tmp_path / "b.xml").unlink())
    assert result.findings[0].what == "it can not be opened (No such file or directory)"


def test_reports_are_not_merged_with_each_other(tmp_path: Path) -> None:
    lay(tmp_path, "a.xml", document=suite(case("<failure/>")))
    lay(tmp_path, "b.xml", document=suite(case()))
    result, cases = reading(tmp_path, "*.xml")
    assert {found.id: found.status for found in cases} == {"c::t": Status.FAILED, "c::t #2": Status.PASSED}
    assert result.totals == Totals(tests=2, passed=1, failed=1)


def test_a_green_stage_with_failing_tests_in_its_report_is_not_green() -> None:
    report, _ = parsed(suite(case(FAIL) + case(name="u")))
    assert (
        Reading((report,)).verdict() == "the commands succeeded, but their reports do not: 2 tests: 1 failed, 1 passed"
    )


def test_flaky_and_skipped_tests_do_not_fail_a_stage() -> None:
    report, _ = parsed(suite(case(FAIL) + case() + case(SKIP, name="u")))
    assert Reading((report,)).verdict() is None
    assert str(report.totals) == "2 tests: 1 flaky, 1 skipped"


def test_a_broken_report_comes_before_failing_tests(tmp_path: Path) -> None:
    lay(tmp_path, "a.xml", document=suite(case(FAIL)))
    lay(tmp_path, "b.xml", "c.xml", document="<testsuites>")
    said = reading(tmp_path, "*.xml")[0].verdict()
    assert said is not None
    assert said.startswith("b.xml: it is cut off at line 1, column 12 (no element found): ")
    assert said.endswith("(and 1 more like it)")


def test_totals_add_up() -> None:
    one, two = Totals(5, 1, 1, 1, 1, 1, 0.5), Totals(1, passed=1, seconds=0.25)
    assert one + two == Totals(6, 2, 1, 1, 1, 1, 0.75)
