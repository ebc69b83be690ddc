"""Reading one report: a stream of bytes in, batches of cases out, and a `Report` that says how it went.

Nothing that stands in a report raises here; what the sink raises (a lost lease, a full disk) passes through. DTDs are
refused by defusedxml; memory stays flat, because every chunk's cases are handed on before the next chunk is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import BinaryIO
from xml.parsers import expat as plain_expat

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from pipeline.reports.decode import CleanText
from pipeline.reports.junit import ODD, SPLIT, JUnitTarget
from pipeline.reports.retries import Attempts, Ids
from pipeline.reports.values import Case, Finding, Limits, Refused, Report, Sink, Status, Totals

_DIED = "the test tool probably died while it wrote; look at the end of the stage's log"
_CUT_OFF = ("no element found", "unclosed token", "unclosed CDATA section", "partial character")
_OMITTED = "[left out: the failures before this one fill the room that a report is given]"


def read(stream: BinaryIO, path: str, sink: Sink, *, ids: Ids | None = None, limits: Limits | None = None) -> Report:
    """Read one JUnit report and hand its cases to `sink` in batches. `path` is only used to speak of it."""
    limits = limits or Limits()
    return _Reader(stream, path, sink, Attempts(ids or Ids(), limits), limits).run()


class _Reader:
    def __init__(self, stream: BinaryIO, path: str, sink: Sink, attempts: Attempts, limits: Limits) -> None:
        self._path = path
        self._sink = sink
        self._attempts = attempts
        self._limits = limits
        self._text = CleanText(stream, limits.size)
        self._target = JUnitTarget(limits)
        self._counts: Counter[Status] = Counter()
        self._seconds = 0.0
        self._kept = 0
        self._omitted = 0
        self._broken: Finding | None = None

    def run(self) -> Report:
        for batch in self._batches():
            self._deliver([case for case in map(self._attempts.take, map(self._weigh, batch)) if case])
        self._deliver(self._attempts.rest())
        return Report(
            self._path,
            Totals.of(self._counts, self._seconds),
            tuple(self._warnings()),
            truncated=bool(self._broken or self._target.cut or self._omitted),
            size=self._text.size,
            text=self._kept,
            broken=self._broken,
        )

    def _batches(self) -> Iterator[list[Case]]:
        """Yield what each chunk held; a report that breaks off yields what stood before."""
        target = self._target
        chunks = self._chunks()
        while True:
            more = self._step(chunks)
            if target.cases:
                yield target.cases
                target.cases = []
            if not more:
                return

    def _step(self, chunks: Iterator[None]) -> bool:
        try:
            next(chunks)
        except StopIteration:
            return False
        except (Refused, DefusedXmlException, ParseError, OSError) as error:
            self._broken = self._refusal(error).at(self._path)
        return not self._broken

    def _chunks(self) -> Iterator[None]:
        parser = DefusedXMLParser(target=self._target, encoding="utf-8", forbid_dtd=True)
        expat = parser.parser
        # Straight to the target: the wrapper's own copies of names and attributes double the time of a large report.
        expat.ordered_attributes = False
        expat.StartElementHandler, expat.EndElementHandler = self._target.start, self._target.end
        fed, done, bound = 0, 0, self._limits.tag * (2 if _defers() else 1)
        for text in self._text:
            data = text.encode()
            fed += len(data)
            parser.feed(data)
            self._target.check()
            # expat keeps an unfinished tag and scans it again with every chunk: without a bound that takes minutes.
            done = max(done, expat.CurrentByteIndex)  # -1 while it waits for more
            if fed - done > bound:
                raise Refused(f"one tag or comment is longer than {_size(self._limits.tag)}", ODD)
            yield
        if self._text.over:
            raise Refused(f"it is larger than {_size(self._limits.size)}", SPLIT)
        parser.close()

    def _refusal(self, error: Exception) -> Refused:
        """Say what is wrong in words for the author of the stage."""
        if isinstance(error, Refused):
            return error
        if isinstance(error, DefusedXmlException):
            return Refused("it holds a DTD or an entity declaration, which are refused", "let the tool write none")
        if isinstance(error, OSError):
            return Refused(f"it can not be read ({error.strerror})", "check the disk and the permissions of the file")
        if not self._text.size:
            return Refused("it is empty", _DIED)
        assert isinstance(error, ParseError)
        reason = str(error).partition(":")[0]
        line, column = error.position
        place = f"line {line}, column {column} ({reason})"
        if reason in _CUT_OFF:
            return Refused(f"it is cut off at {place}", _DIED)
        hint = "let only one tool write to it" if reason.startswith("junk after") else "let the tool write valid XML"
        return Refused(f"it is not well-formed XML at {place}", hint)

    def _deliver(self, cases: list[Case]) -> None:
        for case in cases:
            self._counts[case.status] += 1
            self._seconds += case.seconds or 0.0
        if cases:
            self._sink(cases)

    def _weigh(self, case: Case) -> Case:
        """Leave the texts of a case out when those before it have filled the room."""
        if case.status is Status.PASSED:
            return case
        weight = len(case.message) + len(case.detail) + len(case.output)
        if self._kept + weight <= self._limits.kept:
            self._kept += weight
            return case
        self._omitted += 1
        return replace(case, message=case.message[:200], detail=_OMITTED, output="")

    def _warnings(self) -> Iterator[str]:
        target = self._target
        if self._broken and self._counts:
            yield f"kept: {_plural(sum(self._counts.values()), 'test')} that stood before that place"
        elif not self._broken and not target.listed:
            yield f"it lists no test at all{f', but states {target.stated}' if target.stated else ''}"
        elif target.stated > target.listed:
            yield f"it states {target.stated} tests, but lists {target.listed}"
        if target.odd_times:
            yield f"{_plural(target.odd_times, 'time')} counted as unknown: not a usable number of seconds"
        if target.cut:
            yield f"{_plural(target.cut, 'long text')} cut to the first and last part"
        if self._omitted:
            yield f"texts of {_plural(self._omitted, 'test')} left out: those before them fill the room"
        if self._text.replaced:
            yield f"{_plural(self._text.replaced, 'character')} replaced: not allowed in XML, or not in the encoding"


@cache
def _defers() -> bool:
    """Tell whether expat waits until an unfinished tag has doubled before it looks at it again.

    It does since 2.6, and before that in distributions that took over the cure of CVE-2023-52425.
    """
    seen: list[str] = []
    parser = plain_expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: seen.append(name)
    parser.Parse(b'<a b="' + b"x" * 100)
    parser.Parse(b'">')
    return not seen


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _size(count: int) -> str:
    return f"{count // 1024 // 1024} MB" if count >= 1024 * 1024 else f"{count} bytes"
