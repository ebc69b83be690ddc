"""All reports of one stage attempt: patterns to files, read one after another within a common budget.

The budget is what one stage may put into the database and how long it may keep a worker busy, however many files it
spreads its reports over. How files are found and opened is in `files`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.reports.files import find, open_below
from pipeline.reports.read import read
from pipeline.reports.retries import Ids
from pipeline.reports.values import Finding, Limits, Reading, Refused, Report, Sink

_SPLIT = "narrow the pattern, or split the stage"


def read_all(root: Path, patterns: Iterable[str], sink: Sink, *, limits: Limits | None = None) -> Reading:
    """Read every report below `root` that a pattern matches (`*`, `?`, `[a-z]`, and `**` for any directories).

    Never raises for what it finds; `findings` says what is missing, broken or refused. A file that two patterns match
    is read once. What `sink` raises passes through.
    """
    collection = _Collection(root, sink, limits or Limits())
    for pattern in patterns:
        collection.add(pattern)
    return Reading(tuple(collection.reports), tuple(collection.findings))


class _Collection:
    def __init__(self, root: Path, sink: Sink, limits: Limits) -> None:
        self.reports: list[Report] = []
        self.findings: list[Finding] = []
        self._root = root
        self._sink = sink
        self._limits = limits
        self._ids = Ids()
        self._names: set[str] = set()
        self._size = self._cases = self._text = 0

    def add(self, pattern: str) -> None:
        """Read what a pattern matches."""
        try:
            names = find(self._root, pattern, self._limits.files)
        except Refused as refused:
            self.findings.append(refused.at(pattern))
            return
        for name in names:
            if name not in self._names:
                self._names.add(name)
                self._take(self._read(name, _shown(name)))

    def _take(self, report: Report) -> None:
        self.reports.append(report)
        self._size += report.size
        self._cases += report.totals.tests
        self._text += report.text
        if report.broken:
            self.findings.append(report.broken)

    def _read(self, name: str, shown: str) -> Report:
        try:
            stream = open_below(self._root, name)
        except Refused as refused:
            return Report(shown, broken=refused.at(shown))
        with stream:
            limits = self._limits
            if self._size + os.fstat(stream.fileno()).st_size > limits.total or self._cases >= limits.cases:
                what = (
                    f"the reports before it hold {self._cases} tests in {self._size // 1_000_000} MB, which is the most"
                )
                return Report(shown, broken=Finding(shown, what, _SPLIT))
            left = replace(limits, cases=limits.cases - self._cases, kept=max(0, limits.kept - self._text))
            return read(stream, shown, self._sink, ids=self._ids, limits=left)


def _shown(name: str) -> str:
    """Make the name of a file safe to print and to store, whatever bytes it holds."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
