"""The policy of docs/reference/test-reports.md on broken and odd files, encodings and limits.

What is hostile rather than careless is in test_hostile_reports.
"""

from __future__ import annotations

import io
import tracemalloc

import pytest

from pipeline.reports.decode import CHUNK
from pipeline.reports.read import read
from tests.pipeline.small_reports import case, parsed, suite


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ("", "it is empty"),
        (" \n\n", "it is cut off"),
        ("<testsuites>", "it is cut off"),
        (f"<testsuites><testsuite>{case()}<testcase", "it is cut off at line 1"),
        ("<testsuites></testsuite>", "not well-formed XML at line 1, column 14 (mismatched tag)"),
        ("<testsuites/><testsuites/>", "junk after document element"),
        ("not xml", "not well-formed"),
        ("{}", "not well-formed"),
        ("<!DOCTYPE testsuites><testsuites/>", "a DTD"),
        ('<?xml version="1.0" encoding="zlib"?><testsuites/>', "its encoding zlib is not supported"),
        ('<?xml version="1.0" encoding="idna"?><testsuites/>', "its encoding idna is not supported"),
        ("<testsuites>&unknown;</testsuites>", "undefined entity"),
        ("<coverage/>", "this is a coverage report"),
        ("<test-run/>", "this is an NUnit report"),
        ("<assemblies/>", "this is an xUnit.net report"),
        ("<TestRun xmlns='urn:x'/>", "this is a Visual Studio (TRX) report"),
        ("<testcase name='t'/>", "this is <testcase>, not <testsuites>"),
    ],
)
def test_an_unreadable_report_says_where_what_and_what_to_do(document: str, what: str) -> None:
    report, _ = parsed(document)
    assert report.broken is not None
    assert what in report.broken.what
    assert str(report.broken).startswith("r.xml: ")
    assert report.broken.hint
    assert report.truncated


def test_the_cases_before_a_cut_are_kept_and_the_report_is_not_green() -> None:
    document = suite(case() + case("<failure/>", name="u") + case(name="v"))
    report, cases = parsed(document[: document.index('name="v"')])
    assert sorted(found.name for found in cases) == ["t", "u"]
    assert report.warnings == ("kept: 2 tests that stood before that place",)
    assert report.broken


@pytest.mark.parametrize(
    ("codec", "declared"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("latin-1", "ISO-8859-1"),
        ("cp1252", "windows-1252"),
        ("utf-8", "UTF-16"),
    ],
)
def test_encodings_and_byte_order_marks_are_read(codec: str, declared: str) -> None:
    document = f'<?xml version="1.0" encoding="{declared}"?>' + suite(case(name="grün"))
    assert parsed(document.encode(codec))[1][0].name == "grün"


@pytest.mark.parametrize("codec", ["gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"])
def test_encodings_of_several_bytes_are_read(codec: str) -> None:
    document = f'<?xml version="1.0" encoding="{codec}"?>' + suite(case(name="中日"))
    assert parsed(document.encode(codec))[1][0].name == "中日"


@pytest.mark.parametrize(
    ("raw", "text", "replaced"),
    [
        (b"a\x00b\x0bc", "a\ufffdb\ufffdc", 2),
        (b"bad \xff byte", "bad \ufffd byte", 1),
        (b"&#0;&#x1F;&#xFFFE;&#xD800;&#9999999999;", "\ufffd" * 5, 5),
        (b"\x1b[31mred\x1b[0m &#27;[1mbold&#x1b;[0m", "red bold", 0),
        (b"tab&#9;and &#x2713; &amp; &#128512;", "tab\tand \u2713 & \U0001f600", 0),
        (b"&amp;#27; stays", "&#27; stays", 0),
    ],
)
def test_characters_that_xml_forbids_cost_no_report(raw: bytes, text: str, replaced: int) -> None:
    report, cases = parsed(
        b"<testsuite><testcase name='t'><failure message='m'>" + raw + b"</failure></testcase></testsuite>"
    )
    assert cases[0].detail == text
    said = [warning for warning in report.warnings if "replaced" in warning]
    assert said == (
        [f"{replaced} character{'s'[: replaced > 1]} replaced: not allowed in XML, or not in the encoding"]
        if replaced
        else []
    )


@pytest.mark.parametrize("shift", range(12))
def test_a_reference_that_a_chunk_border_splits_is_replaced_whole(shift: int) -> None:
    head = b"<testsuite><testcase name='t'><failure message='m'>"
    padding = b"x" * (CHUNK - len(head) - shift)
    report, cases = parsed(head + padding + "ü&#27;[0mé&#x0;".encode() + b"</failure></testcase></testsuite>")
    assert report.broken is None
    assert cases[0].detail.endswith("xüé\ufffd")


def test_blank_lines_before_the_declaration_are_forgiven() -> None:
    assert parsed('\n\n <?xml version="1.0"?>' + suite(case()))[0].broken is None


@pytest.mark.parametrize(
    ("limits", "document", "what"),
    [
        ({"size": 200}, suite(case() * 20), "larger than 200 bytes"),
        ({"cases": 5}, suite(case() * 20), "more than 5 test cases"),
        ({"elements": 5}, suite(case() * 20), "more than 5 elements"),
        ({"depth": 5}, "<testsuites>" + "<testsuite>" * 5, "nested more than 5 deep"),
        ({"attributes": 1}, suite(case()), "more than 1 attributes"),
        ({"names": 3}, suite(case()), "more than 3 different names"),
    ],
)
def test_beyond_a_limit_a_report_is_broken(limits: dict[str, int], document: str, what: str) -> None:
    report, _ = parsed(document, **limits)
    assert report.broken is not None
    assert what in report.broken.what


def test_a_report_of_exactly_the_limit_is_read() -> None:
    document = suite(case())
    assert parsed(document, size=len(document))[0].broken is None
    assert parsed(document, size=len(document) - 1)[0].broken is not None


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    body = f"<failure message='{'m' * 9000}'>begin {'x' * 100_000} end</failure>"
    report, cases = parsed(suite(case(body)))
    assert cases[0].detail.startswith("begin xxx")
    assert cases[0].detail.endswith("xxx end")
    assert "characters left out" in cases[0].detail
    assert len(cases[0].detail) < 65_000
    assert len(cases[0].message) < 8_100
    assert report.truncated
    assert report.broken is None
    assert report.warnings == ("2 long texts cut to the first and last part",)


def test_many_long_texts_fill_only_the_room_of_one_report() -> None:
    inner = "".join(case(f"<failure message='m'>{'x' * 1000}</failure>", name=f"t{i}") for i in range(20))
    report, cases = parsed(suite(inner), kept=10_500)
    assert [len(found.detail) for found in cases[:10]] == [1000] * 10
    assert all(found.detail.startswith("[left out") for found in cases[10:])
    assert report.totals.failed == 20
    assert report.warnings == ("texts of 10 tests left out: those before them fill the room",)


def test_a_disk_that_fails_is_a_broken_report() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    report = read(Failing(), "r.xml", lambda cases: None)  # type: ignore[arg-type]
    assert report.broken is not None
    assert "Input/output error" in report.broken.what


def test_what_the_sink_raises_is_not_taken_for_a_broken_report() -> None:
    def sink(cases: object) -> None:
        raise ValueError("the database said no")

    with pytest.raises(ValueError, match="the database said no"):
        read(io.BytesIO(suite(case()).encode()), "r.xml", sink)


def test_cases_come_in_batches_and_are_not_held() -> None:
    sizes: list[int] = []
    document = suite("".join(case(name=f"t{i}") for i in range(50_000))).encode()
    tracemalloc.start()
    read(io.BytesIO(document), "r.xml", lambda cases: sizes.append(len(cases)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == 50_000
    assert max(sizes) < 10_000
    assert peak < 20_000_000
