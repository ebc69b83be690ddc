"""Hostile, huge and damaged reports: a clear error or a report, in bounded time and memory, and never a crash.

Bombs run in processes of their own, so that their memory can be told. Damage is done by hypothesis, seeded.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.reports import Case, Report, Status
from pipeline.reports.read import read
from tests.pipeline.hostile_reports import REPORTS, Stream, large
from tests.pipeline.test_report_vectors import ENTRIES, needs_vectors, vectors

PROJECT = Path(__file__).parents[2]
REFUSED = {
    "billion laughs": "a DTD",
    "quadratic blow-up": "a DTD",
    "external entity": "a DTD",
    "parameter entity": "a DTD",
    "external subset": "a DTD",
    "nesting": "nested more than 64 deep",
    "nested suites": "nested more than 64 deep",
    "a million attributes": "longer than 4 MB",
    "300 attributes": "more than 256 attributes",
    "names": "different names",
    "attribute names": "different names",
    "elements": "more than 4000000 elements",
    "cases": "more than 500000 test cases",
    "long attribute": "longer than 4 MB",
    "long comment": "longer than 4 MB",
    "ampersands": "not well-formed",
    "no end": "larger than 256 MB",
}


def measured(name: str) -> dict[str, Any]:
    """Read a hostile report in a fresh process."""
    argv = [sys.executable, "-m", "tests.pipeline.hostile_reports", name]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_an_ordinary_report_of_52_megabytes_is_read_in_flat_memory() -> None:
    cost = measured("large")
    assert 50e6 < sum(map(len, large())) < 54e6
    assert cost["tests"] == 150_000
    assert cost["broken"] == ""
    assert cost["warnings"] == []
    assert cost["megabytes"] < 30


@pytest.mark.parametrize("name", sorted(set(REPORTS) - {"large"}))
def test_a_hostile_report_costs_little_and_kills_nothing(name: str) -> None:
    cost = measured(name)
    assert REFUSED.get(name, "") in cost["broken"]
    assert bool(cost["broken"]) == (name in REFUSED)
    assert cost["megabytes"] < 80
    assert cost["seconds"] < 20  # of processor time; the slowest takes about three on two cores of 2024


def test_an_entity_is_neither_read_nor_fetched() -> None:
    cost = measured("external entity")
    assert "root:" not in json.dumps(cost)
    assert cost["tests"] == 0


def consistent(data: bytes) -> tuple[Report, list[Case]]:
    """Read a document, and hold what comes out to what is always true."""
    cases: list[Case] = []
    report = read(io.BytesIO(data), "r.xml", cases.extend)
    totals = report.totals
    assert totals.tests == len(cases) == len({case.id for case in cases})
    assert totals.tests == totals.passed + totals.failed + totals.errors + totals.skipped + totals.flaky
    assert totals.seconds >= 0
    for case in cases:
        for text in (case.id, case.name, case.message, case.detail, case.output):
            text.encode()
            assert "\0" not in text
    return report, cases


small = st.sampled_from(sorted(name for name, entry in ENTRIES.items() if entry["independent"]["bytes"] < 25_000))
fuzzed = settings(max_examples=400, derandomize=True, deadline=None, database=None)


@needs_vectors
@fuzzed
@given(name=small, place=st.floats(0, 1, exclude_max=True))
def test_a_truncated_report_is_broken_and_keeps_a_part_of_its_cases(name: str, place: float) -> None:
    data = (vectors() / name).read_bytes()
    end = data.rfind(b"</")  # the end tag of the root; a comment may follow
    whole, _ = consistent(data)
    report, _ = consistent(data[: int((end if end > 0 else len(data.rstrip())) * place)])
    assert report.broken
    assert report.totals.tests <= whole.totals.tests


@needs_vectors
@fuzzed
@given(
    name=small,
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_flipped_bytes_never_crash_the_reader(name: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray((vectors() / name).read_bytes())
    for place, byte in flips:
        data[int(len(data) * place)] = byte
    consistent(bytes(data))


@fuzzed
@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", b"<testsuites>", b"<testsuite><testcase><failure>", b"\xff\xfe", b"\xef\xbb\xbf<"]),
)
def test_any_bytes_are_a_report_or_a_finding(data: bytes, head: bytes) -> None:
    report, _ = consistent(head + data)
    assert report.broken or not report.truncated


TAGS = [
    "testsuites",
    "testsuite",
    "testcase",
    "failure",
    "error",
    "skipped",
    "flakyFailure",
    "rerunError",
    "system-out",
    "x:failure",
    "properties",
]
NAMES = ["name", "classname", "file", "line", "time", "status", "tests", "failures", "errors", "message", "type"]
VALUES = ["", "a", "b", "1", "-1", "NaN", "1,5", "disabled", "failed", "\u00fc", "&#27;", "&lt;"]


def elements(depth: int) -> st.SearchStrategy[str]:
    inner = (
        st.just("text")
        if depth == 0
        else st.lists(elements(depth - 1) | st.sampled_from(["", "t &amp; x", "<![CDATA[<]]>"]), max_size=4).map(
            "".join
        )
    )
    attributes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=5)
    return st.builds(element, st.sampled_from(TAGS), attributes, inner)


def element(tag: str, attributes: dict[str, str], body: str) -> str:
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{said}>{body}</{tag}>"


@fuzzed
@given(body=elements(4))
def test_no_failure_inside_a_case_is_lost_whatever_the_shape(body: str) -> None:
    document = f'<testsuites xmlns:x="urn:x">{body}</testsuites>'.encode()
    report, cases = consistent(document)
    assert report.broken is None
    failing = [test for test in ET.fromstring(document.replace(b"&#27;", b"")).iter("testcase") if has_failed(test)]
    assert any(case.status.bad or case.status is Status.FLAKY for case in cases) or not failing


def has_failed(test: ET.Element) -> bool:
    return any(child.tag.rpartition("}")[2] in ("failure", "error") for child in test.iter())


@needs_vectors
def test_a_stream_that_answers_in_small_pieces_gives_the_same_cases() -> None:
    data = (vectors() / "dorny/external__java__pulsar-test-report.xml").read_bytes()
    _, whole = consistent(data)
    cases: list[Case] = []
    pieces = (data[i : i + 997] for i in range(0, len(data), 997))
    read(Stream(pieces), "r.xml", cases.extend)  # type: ignore[arg-type]
    assert cases == whole
