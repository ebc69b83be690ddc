"""Reports that no test tool writes: bombs, floods and monsters, made on the fly so that none lies on a disk.

Run as a script with a name, it reads that report in a fresh process and prints what it cost.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat

HEAD = b'<?xml version="1.0"?><testsuites><testsuite name="s">'
TAIL = b"</testsuite></testsuites>"
CASE = b'<testcase classname="c" name="before"/>'


class Stream(io.RawIOBase):
    """A readable stream of the pieces of an iterator."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while len(self._rest) < len(buffer):
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _laughs() -> Iterator[bytes]:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    return iter([f'<!DOCTYPE t [<!ENTITY l0 "lol">{entities}]><testsuites>&l9;</testsuites>'.encode()])


def _quadratic() -> Iterator[bytes]:
    return iter([b'<!DOCTYPE t [<!ENTITY a "' + b"a" * 100_000 + b'">]><testsuites>' + b"&a;" * 100_000])


def _entity(declaration: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([b"<!DOCTYPE t [" + declaration + b"]><testsuites>&x;</testsuites>"])


def _inside(*pieces: Iterator[bytes]) -> Iterator[bytes]:
    return chain([HEAD, CASE], *pieces, [TAIL])


def _many(count: int, make: Callable[[int], bytes]) -> Iterator[bytes]:
    return (b"".join(make(i) for i in range(start, start + 1000)) for start in range(0, count, 1000))


def large() -> Iterator[bytes]:
    """150 000 ordinary cases in about 52 MB."""

    def case(i: int) -> bytes:
        body = "<system-out>" + "one output line of test\n" * 8 + "</system-out>"
        if i % 50 == 0:
            body = f'<failure message="assert {i} == 1">' + "trace line &lt;x&gt;\n" * 15 + "</failure>"
        elif i % 20 == 0:
            body = '<skipped message="why"/>'
        return (
            f'<testcase classname="pkg.module_{i // 100}.TestClass" name="test_number_{i}[param-{i % 7}]" '
            f'time="0.{i % 1000:03d}" file="tests/test_{i // 100}.py">{body}</testcase>\n'
        ).encode()

    return chain([HEAD], _many(150_000, case), [TAIL])


REPORTS: dict[str, Callable[[], Iterator[bytes]]] = {
    "large": large,
    "billion laughs": _laughs,
    "quadratic blow-up": _quadratic,
    "external entity": _entity(b'<!ENTITY x SYSTEM "file:///etc/passwd">'),
    "parameter entity": _entity(b'<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;'),
    "external subset": lambda: iter([b'<!DOCTYPE t SYSTEM "http://127.0.0.1:9/x"><testsuites/>']),
    "nesting": lambda: _inside(_many(100_000, lambda i: b"<a>")),
    "nested suites": lambda: _inside(_many(100_000, lambda i: b'<testsuite name="s">')),
    "a million attributes": lambda: _inside([b"<testcase "], _many(1_000_000, lambda i: b'a%d="" ' % i), [b"/>"]),
    "300 attributes": lambda: _inside([b"<testcase ", b"".join(b'a%d="" ' % i for i in range(300)), b"/>"]),
    "names": lambda: _inside(_many(1_000_000, lambda i: b"<n%d/>" % i)),
    "attribute names": lambda: _inside(_many(1_000_000, lambda i: b'<testcase n%d="1"/>' % i)),
    "elements": lambda: _inside(_many(5_000_000, lambda i: b"<a/>")),
    "cases": lambda: _inside(_many(600_000, lambda i: b'<testcase name="%d"/>' % i)),
    "long attribute": lambda: _inside([b'<testcase name="'], repeat(b"x" * 65536, 2000), [b'"/>']),
    "long comment": lambda: _inside([b"<!--"], repeat(b"x" * 65536, 2000), [b"-->"]),
    "long tags": lambda: _inside(
        chain.from_iterable(
            [b"<p ", *repeat(b'a="' + b"x" * 60_000, 1), *repeat(b"x" * 65536, 60), b'"/>'] for _ in range(20)
        )
    ),
    "long text": lambda: _inside([b"<testcase><failure>"], repeat(b"x" * 65536, 2000), [b"</failure></testcase>"]),
    "long lines": lambda: _inside([b"<testcase><failure>"], repeat(b"&lt;\n" * 13000, 500), [b"</failure></testcase>"]),
    "failures": lambda: _inside(
        _many(50_000, lambda i: b'<testcase name="%d"><failure>%s</failure></testcase>' % (i, b"x" * 2000))
    ),
    "attempts": lambda: _inside(_many(50_000, lambda i: b'<testcase name="t"><failure>reason</failure></testcase>')),
    "results in a case": lambda: _inside([b"<testcase>"], _many(1_000_000, lambda i: b"<failure/>"), [b"</testcase>"]),
    "escapes": lambda: _inside(
        [b"<testcase><failure>"], repeat(b"\x1b[31m\x00\xff&#27;" * 5000, 150), [b"</failure></testcase>"]
    ),
    "ampersands": lambda: _inside([b"<testcase><failure>"], repeat(b"&#" * 30000, 500)),
    "no end": lambda: chain([HEAD, CASE], repeat(b" " * 65536)),
}


def main(name: str) -> None:
    from pipeline.reports.read import read

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with io.BufferedReader(Stream(iter([HEAD, CASE, TAIL]))) as warm:
        read(warm, "warm", lambda cases: None)
    before, started = peak(), time.process_time()
    with io.BufferedReader(Stream(REPORTS[name]())) as stream:
        report = read(stream, "r.xml", lambda cases: None)
    json.dump(
        {
            "seconds": time.process_time() - started,
            "megabytes": (peak() - before) / 1024,
            "tests": report.totals.tests,
            "broken": str(report.broken or ""),
            "warnings": report.warnings,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1])
