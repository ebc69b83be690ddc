"""One test case as a value: status, time, message, output, through junitparser's reading of the element.

Pure: an element in, a `Case` out. The rules are those of docs/reference/test-reports.md, section "One test case".
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from xml.etree.ElementTree import Element

from junitparser import Error, Failure, Skipped, xunit2
from junitparser.junitparser import Result, System

from pipeline.reports.text import clip, label
from pipeline.reports.values import UNNAMED, Case, Limits, Status

KEPT_TAGS = frozenset(xunit2.TestCase.ITER_TYPES)
_OUTPUTS = frozenset({"system-out", "system-err"})
_UNSAID = "(the report gives no reason)"
_LONGEST = 1e7
_ID_LENGTH = 512
_STATED = {
    **dict.fromkeys(("disabled", "notrun", "skipped", "ignored", "suppressed", "pending"), Status.SKIPPED),
    **dict.fromkeys(("fail", "failed", "failure"), Status.FAILED),
    **dict.fromkeys(("error", "errored", "broken"), Status.ERROR),
}


class Place(NamedTuple):
    """Where a case stands: the path of its suites, and the file its suite names."""

    suite: str
    file: str


def read_case(element: Element, place: Place, limits: Limits) -> Case:
    """Read one `<testcase>` element whose children are results and outputs only."""
    get = element.attrib.get
    name = label(get("name") or UNNAMED, limits.label)
    classname = label(get("classname", ""), limits.label)
    file = label(get("file") or place.file, limits.label)
    case = Case(
        identity(place.suite, classname or file, name),
        place.suite,
        name,
        classname,
        _with_line(file, get("line", "")),
        Status.PASSED,
        seconds(get("time", "")),
    )
    if all(child.tag in _OUTPUTS for child in element) and "status" not in element.attrib:
        return case
    told = xunit2.TestCase.fromelem(element)  # type: ignore[no-untyped-call]
    return _judge(case, told, get("status", ""), limits)


def _judge(case: Case, told: xunit2.TestCase, stated: str, limits: Limits) -> Case:
    entries = list(told)
    results = [entry for entry in entries if isinstance(entry, Result)]
    status = _status(results, _STATED.get(stated.lower()))
    if status is Status.PASSED:
        return case
    shown = [result for result in results if isinstance(result, Skipped) == (status is Status.SKIPPED)]
    output = "\n".join(entry.text for entry in entries if isinstance(entry, System) and entry.text)
    return replace(
        case,
        status=status,
        message=next(filter(None, map(_headline, shown)), _UNSAID if status.bad else ""),
        detail=clip(_detail(shown), limits.text),
        output=clip(output, limits.text) if status is not Status.SKIPPED else "",
        attempts=1 + sum(isinstance(result, xunit2.InterimResult) for result in results),
    )


def identity(suite: str, classname: str, name: str) -> str:
    """Join the parts that name a test in every run; equal parts are said once."""
    return label("::".join(dict.fromkeys(part for part in (suite, classname, name) if part)), _ID_LENGTH)


def seconds(stated: str) -> float | None:
    """Read a `time` attribute: seconds, or None when it is no number, negative, or beyond four months.

    `1,234.5` is grouped; a single comma without a point is a decimal comma.
    """
    text = stated.strip()
    if "," in text:
        text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= _LONGEST else None


def _status(results: list[Result], stated: Status | None) -> Status:
    for result in results:
        if isinstance(result, Failure | Error):
            return Status.ERROR if isinstance(result, Error) else Status.FAILED
    if stated is not None and stated.bad:
        return stated
    if any(isinstance(result, xunit2.InterimResult) for result in results):
        return Status.FLAKY
    return Status.SKIPPED if results or stated else Status.PASSED


def _headline(result: Result) -> str:
    lines = (result.text or "").strip().splitlines()
    return str(result.message or (lines[0].strip() if lines else "") or result.type or "")


def _detail(told: list[Result]) -> str:
    if len(told) == 1:
        return (told[0].text or "").strip("\n")
    return "\n".join(f"--- {_headline(result)}\n{(result.text or '').strip()}" for result in told)


def _with_line(file: str, line: str) -> str:
    return f"{file}:{line}" if file and line.isdecimal() and len(line) < 10 else file
