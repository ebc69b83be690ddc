"""JUnit's outer structure: from parser events to test cases, one at a time, with every limit checked.

An expat target: it builds no tree beyond the test case that is open, and refuses what no test tool writes. It reads
no file and knows nothing of retries; what a single test case says is read in `case`.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from pipeline.reports.case import KEPT_TAGS, Place, read_case
from pipeline.reports.text import Gathered, label
from pipeline.reports.values import SUITE, Case, Limits, Refused

_ELEMENTS_PER_CASE = 50
ODD = "no test tool writes this"
SPLIT = "split the tests over several reports"
_FOREIGN = {
    "coverage": "a coverage report",
    "report": "a JaCoCo coverage report",
    "checkstyle": "a Checkstyle report",
    "assemblies": "an xUnit.net report",
    "test-run": "an NUnit report",
    "test-results": "an NUnit 2 report",
    "TestRun": "a Visual Studio (TRX) report",
    "testng-results": "TestNG's own report",
    "html": "a web page",
}


@dataclass(slots=True)
class _Suite:
    """An open suite: its place, what it states of itself, and what was seen inside."""

    place: Place
    depth: int
    stated: int
    stated_bad: int
    stated_below: int = 0
    bad: int = 0


class JUnitTarget:
    """Receives start, data and end from the parser. `cases` fills up and is emptied by the reader."""

    def __init__(self, limits: Limits) -> None:
        self.cases: list[Case] = []
        self.listed = self.stated = self.cut = self.odd_times = 0
        self._limits = limits
        self._names: set[str] = set()
        self._depth = self._elements = 0
        self._suites: list[_Suite] = []
        self._case: Element | None = None
        self._case_depth = 0
        self._texts: list[tuple[int, Element, Gathered]] = []

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        """Open an element. Raises Refused beyond a limit, and for a document that is not JUnit."""
        self._depth += 1
        self._elements += 1
        self._names.add(tag)
        self._names.update(attrs)
        if self._depth > self._limits.depth:
            raise Refused(f"elements are nested more than {self._limits.depth} deep", ODD)
        if len(attrs) > self._limits.attributes:
            raise Refused(f"<{tag[:60]}> has more than {self._limits.attributes} attributes", ODD)
        tag = tag.rpartition("}")[2]
        if self._case is not None:
            self._open_result(self._case, tag, attrs)
        elif tag in ("testsuite", "testsuites"):
            self._open_suite(tag, attrs)
        elif not self._suites:
            said = _FOREIGN.get(tag, f"<{tag[:60]}>, not <testsuites> or <testsuite>")
            raise Refused(f"this is {said}", "let the pattern match JUnit reports only")
        elif tag == "testcase":
            self._case, self._case_depth = Element(tag, attrs), self._depth
        elif tag in ("error", "failure") and self._depth == self._suites[-1].depth + 1:
            self._case, self._case_depth = Element("testcase", name=SUITE), self._depth
            self._open_result(self._case, tag, attrs)

    def data(self, text: str) -> None:
        """Take text; what belongs to no result of a test case is dropped."""
        if self._texts:
            self._texts[-1][2].add(text)

    def end(self, tag: str) -> None:
        """Close an element: a test case becomes a value, a suite is held to its own statements."""
        if self._texts and self._texts[-1][0] == self._depth:
            _, result, text = self._texts.pop()
            result.text = str(text)
            self.cut += bool(text.cut)
        if self._case is not None:
            if self._case_depth == self._depth:
                self._close_case(self._case, self._suites[-1])
                self._case = None
        elif self._suites and self._suites[-1].depth == self._depth:
            self._close_suite(self._suites.pop())
        self._depth -= 1

    def close(self) -> None:
        """End the document; all of it has been delivered by then."""

    def check(self) -> None:
        """Compare what has been counted so far with the limits; called once per chunk. Raises Refused."""
        if self._elements > self._limits.elements:
            raise Refused(f"it has more than {self._limits.elements} elements", SPLIT)
        if self.listed > self._limits.cases:
            raise Refused(f"it has more than {self._limits.cases} test cases", SPLIT)
        if len(self._names) > self._limits.names:
            raise Refused(f"more than {self._limits.names} different names of elements and attributes", ODD)

    def _open_suite(self, tag: str, attrs: dict[str, str]) -> None:
        above = self._suites[-1].place if self._suites else Place("", "")
        name = attrs.get("name", "") if tag == "testsuite" else ""
        path = f"{above.suite} / {name}" if above.suite and name else above.suite or name
        place = Place(label(path, self._limits.label), attrs.get("file", above.file))
        bad = _count(attrs, "failures") + _count(attrs, "errors")
        self._suites.append(_Suite(place, self._depth, _count(attrs, "tests"), bad))

    def _close_suite(self, suite: _Suite) -> None:
        if suite.stated_bad and not suite.bad:
            case = Element("testcase", name=SUITE)
            said = f"the suite states that {suite.stated_bad} of its tests failed or broke, and lists none of them"
            SubElement(case, "error", message=said)
            self._close_case(case, suite)
        stated = suite.stated or suite.stated_below
        if self._suites:
            self._suites[-1].bad += suite.bad
            self._suites[-1].stated_below += stated
        else:
            self.stated = stated

    def _open_result(self, case: Element, tag: str, attrs: dict[str, str]) -> None:
        if tag not in KEPT_TAGS or (len(case) >= _ELEMENTS_PER_CASE and case.find(tag) is not None):
            return
        message = attrs.get("message") or ""
        if len(message) > self._limits.message:
            message, self.cut = f"{message[: self._limits.message]} [...]", self.cut + 1
        result = SubElement(case, tag, message=message, type=attrs.get("type", "")[: self._limits.label])
        self._texts.append((self._depth, result, Gathered(self._limits.text)))

    def _close_case(self, element: Element, suite: _Suite) -> None:
        case = read_case(element, suite.place, self._limits)
        suite.bad += case.status.bad or case.attempts > 1
        self.listed += 1
        self.odd_times += case.seconds is None and bool(element.get("time"))
        self.cases.append(case)


def _count(attrs: dict[str, str], name: str) -> int:
    stated = attrs.get(name, "")
    return int(stated) if stated.isdecimal() and len(stated) < 10 else 0
