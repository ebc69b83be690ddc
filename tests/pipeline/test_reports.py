"""The policy of docs/reference/test-reports.md on test cases, suites, names and retries, sentence by sentence.

The rest of it is in test_report_damage, test_report_workspace and test_report_views.
"""

from __future__ import annotations

import pytest

from pipeline.reports import Reading, Status, Totals
from tests.pipeline.small_reports import ERROR, FAIL, PASS, SKIP, case, only, parsed, suite


@pytest.mark.parametrize(
    ("result", "attributes", "status"),
    [
        ("", {}, Status.PASSED),
        ("<system-out>x</system-out>", {}, Status.PASSED),
        ("", {"status": "run"}, Status.PASSED),
        ("<failure/>", {}, Status.FAILED),
        ("<error/>", {}, Status.ERROR),
        ("<failure/><error/>", {}, Status.FAILED),
        ("<error/><failure/>", {}, Status.ERROR),
        ("<skipped/><failure/>", {}, Status.FAILED),
        ("<skipped/>", {}, Status.SKIPPED),
        ("<skipped/>", {"status": "failed"}, Status.FAILED),
        ("", {"status": "disabled"}, Status.SKIPPED),
        ("", {"status": "notrun"}, Status.SKIPPED),
        ("", {"status": "Failed"}, Status.FAILED),
        ("", {"status": "errored"}, Status.ERROR),
        ("<failure/>", {"status": "disabled"}, Status.FAILED),
        ("<flakyFailure/>", {}, Status.FLAKY),
        ("<flakyError/>", {}, Status.FLAKY),
        ("<rerunFailure/>", {}, Status.FLAKY),
        ("<failure/><rerunFailure/>", {}, Status.FAILED),
        ("<properties><property name='a'><failure/></property></properties>", {}, Status.FAILED),
        ("<testcase name='inner'><failure/></testcase>", {}, Status.FAILED),
    ],
)
def test_a_failure_is_never_explained_away(result: str, attributes: dict[str, str], status: Status) -> None:
    assert only(case(result, **attributes)).status is status


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("1.4e-05", 1.4e-05),
        ("1,234.5", 1234.5),
        ("1,234,567.5", 1234567.5),
        ("0,25", 0.25),
        ("", None),
        ("NaN", None),
        ("inf", None),
        ("-1", None),
        ("1e400", None),
        ("99999999", None),
        ("&lt;computed&gt;", None),
    ],
)
def test_a_time_is_seconds_or_unknown(stated: str, seconds: float | None) -> None:
    assert only(case(time=stated)).seconds == seconds


def test_unusable_times_are_warned_of_and_do_not_spoil_the_sum() -> None:
    report, _ = parsed(suite(case(time="NaN") + case(name="u", time="-3") + case(name="v", time="1.5")))
    assert report.totals.seconds == 1.5
    assert report.warnings == ("2 times counted as unknown: not a usable number of seconds",)


def test_message_detail_and_output_of_a_failing_test_are_kept() -> None:
    body = '<failure message="1 != 2" type="AssertionError">line 1\nline 2</failure>'
    body += "<system-out>out</system-out><system-err>err</system-err>"
    read_case = only(case(body, file="tests/a.py", line="12"), name="s")
    assert (read_case.message, read_case.detail, read_case.output) == ("1 != 2", "line 1\nline 2", "out\nerr")
    assert (read_case.id, read_case.file) == ("s::c::t", "tests/a.py:12")


def test_output_of_a_passing_test_is_not_kept() -> None:
    assert only(case("<system-out>much</system-out>")).output == ""


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("<failure>\n  first line\nsecond</failure>", "first line"),
        ('<failure type="Oops"/>', "Oops"),
        ("<failure/>", "(the report gives no reason)"),
        ('<skipped message="not today"/>', "not today"),
        ("<flakyFailure message='once'><stackTrace>at x</stackTrace></flakyFailure>", "once"),
    ],
)
def test_the_message_says_the_most_that_is_known(result: str, message: str) -> None:
    assert only(case(result)).message == message


def test_several_failures_of_one_case_are_all_told() -> None:
    told = only(case('<failure message="one">a</failure><failure message="two">b</failure>'))
    assert told.message == "one"
    assert told.detail == "--- one\na\n--- two\nb"


def test_a_stack_trace_inside_a_flaky_failure_is_its_detail() -> None:
    flaky = only(
        case("<flakyFailure message='m'><stackTrace>at x</stackTrace><system-err>e</system-err></flakyFailure>")
    )
    assert (flaky.detail, flaky.output, flaky.attempts) == ("at x", "e", 2)


def test_a_case_without_a_name_is_counted() -> None:
    assert only("<testcase/>").name == "(no name)"


def test_nested_suites_give_a_path_and_keep_equal_names_apart() -> None:
    inner = "".join(f'<testsuite name="{name}">{case()}</testsuite>' for name in "ab")
    _, cases = parsed(suite(inner, name="outer"))
    assert [(found.suite, found.id) for found in cases] == [
        ("outer / a", "outer / a::c::t"),
        ("outer / b", "outer / b::c::t"),
    ]


def test_namespaces_do_not_hide_a_failure() -> None:
    report, _ = parsed(
        f'<x:testsuites xmlns:x="urn:x" xmlns="urn:x"><testsuite>{case("<failure/>")}</testsuite></x:testsuites>'
    )
    assert report.totals == Totals(tests=1, failed=1)


@pytest.mark.parametrize("tag", ["error", "failure"])
def test_an_error_of_the_suite_itself_is_a_case(tag: str) -> None:
    report, cases = parsed(suite(f'<{tag} message="set-up broke">why</{tag}>' + case(), name="s"))
    assert report.totals == Totals(tests=2, passed=1, failed=tag == "failure", errors=tag == "error")
    assert (cases[0].name, cases[0].message, cases[0].detail) == ("(suite)", "set-up broke", "why")


def test_a_suite_that_states_failures_but_lists_none_is_not_green() -> None:
    report, cases = parsed(suite("", name="s", tests="3", failures="1", errors="1"))
    assert report.totals == Totals(tests=1, errors=1)
    assert "2 of its tests failed" in cases[0].message


def test_a_stated_failure_is_asked_for_once_and_not_again_by_the_suites_around() -> None:
    inner = suite("", failures="1")
    report, _ = parsed(f'<testsuite failures="1">{inner}</testsuite>')
    assert report.totals == Totals(tests=1, errors=1)


def test_stated_failures_that_a_retry_mended_make_no_extra_case() -> None:
    report, _ = parsed(suite(case("<failure/>") + case(), failures="1"))
    assert report.totals == Totals(tests=1, flaky=1)


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        ("<testsuites/>", "it lists no test at all"),
        ('<testsuite tests="0"/>', "it lists no test at all"),
        ('<testsuite tests="5"/>', "it lists no test at all, but states 5"),
        (suite(case(), tests="8"), "it states 8 tests, but lists 1"),
        (
            f'<testsuites tests="9"><testsuite tests="1">{case()}</testsuite></testsuites>',
            "it states 9 tests, but lists 1",
        ),
    ],
)
def test_cases_are_evidence_and_attributes_are_claims(document: str, warning: str) -> None:
    report, _ = parsed(document)
    assert report.warnings == (warning,)
    assert Reading((report,)).verdict() is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([FAIL, PASS], ["t flaky 2"]),
        ([FAIL, ERROR, PASS], ["t flaky 3"]),
        ([FAIL, FAIL], ["t failed 2"]),
        ([FAIL, FAIL, ERROR], ["t error 3"]),
        ([PASS, FAIL], ["t passed 1", "t #2 failed 1"]),
        ([PASS, FAIL, PASS], ["t passed 1", "t #2 flaky 2"]),
        ([PASS, PASS], ["t passed 1", "t #2 passed 1"]),
        ([SKIP, FAIL], ["t skipped 1", "t #2 failed 1"]),
        ([FAIL, SKIP], ["t failed 1", "t #2 skipped 1"]),
        ([FAIL, PASS, FAIL], ["t flaky 2", "t #2 failed 1"]),
    ],
)
def test_a_retry_is_a_failure_followed_by_another_attempt(results: list[str], expected: list[str]) -> None:
    report, cases = parsed(suite("".join(case(result) for result in results)))
    said = [f"{found.id.removeprefix('c::')} {found.status} {found.attempts}" for found in cases]
    assert sorted(said) == sorted(expected)
    assert report.totals.tests == len(expected)


def test_attempts_tell_all_messages_and_the_summed_time() -> None:
    merged = only(case(FAIL, time="1") + case(ERROR, time="2"))
    assert merged.seconds == 3.0
    assert merged.message == "f"
    assert merged.detail == "d\n--- attempt 2: e\nd"


def test_a_mended_failure_keeps_its_message() -> None:
    assert only(case(FAIL) + case(PASS)).message == "f"


def test_the_same_name_in_another_class_file_or_suite_is_another_test() -> None:
    inner = '<testcase classname="c" name="t"><failure/></testcase><testcase classname="d" name="t"/>'
    files = '<testcase name="t" file="a.c"><failure/></testcase><testcase name="t" file="b.c"/>'
    assert parsed(suite(inner + files))[0].totals == Totals(tests=4, passed=2, failed=2)


def test_cases_without_a_name_are_no_retries_of_each_other() -> None:
    report, cases = parsed(suite("<testcase><failure/></testcase><testcase/><error/><error/>"))
    assert report.totals == Totals(tests=4, passed=1, failed=1, errors=2)
    assert {found.id for found in cases} == {"(no name)", "(no name) #2", "(suite)", "(suite) #2"}


def test_a_test_that_is_really_called_like_a_second_one_keeps_an_id_of_its_own() -> None:
    for names in (["t", "t", "t #2"], ["t #2", "t", "t"], ["t #2", "t", "t", "t #2", "t"]):
        _, cases = parsed(suite("".join(case(name=name) for name in names)))
        assert len({found.id for found in cases}) == len(names)


def test_long_names_stay_distinct_and_ids_short() -> None:
    inner = "".join(case(name="n" * 5000 + end) for end in "ab")
    _, cases = parsed(suite(inner, name="s" * 5000))
    assert len({found.id for found in cases}) == 2
    assert all(len(found.id) <= 512 and len(found.name) <= 1000 and len(found.suite) <= 1000 for found in cases)
