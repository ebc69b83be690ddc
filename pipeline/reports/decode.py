"""Bytes of a report to text that an XML parser accepts: encodings, byte order marks, control characters.

It decodes and replaces; it knows nothing of XML beyond the declaration. XML 1.0 (section 2.2) forbids most control
characters, yet test output is full of them, and one escape sequence must not cost a whole report.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.reports.values import Refused

CHUNK = 256 * 1024

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
# Text encodings only, and none whose decoder is slow by nature (idna, punycode) or reads escapes.
_ALLOWED = re.compile(r"(utf-8|ascii|iso8859|cp\d|koi8|mac|gb|big5|hz|shift_jis|euc_)")
_COLOUR = re.compile(r"(?:\x1b|&#(?:0*27|x0*1[bB]);)\[[0-9;:?]*[A-Za-z]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,10}));")
_TAIL = 40


def encoding_of(head: bytes) -> str:
    """Name the Python codec of a document from its first bytes (XML 1.0, appendix F). Raises Refused."""
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            return codec
    declared = _DECLARED.search(head[:512])
    if not declared:
        return "utf-8"
    name = declared[1].decode("ascii")
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        codec = ""
    if codec.startswith(("utf-16", "utf-32")):
        return "utf-8"  # it can not be: the declaration itself was readable byte by byte
    if not _ALLOWED.match(codec):
        raise Refused(f"its encoding {name} is not supported", "let the test tool write UTF-8")
    return codec


class CleanText:
    """The text of a stream in chunks, fit for expat. `replaced` counts the characters that could not be kept."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self.replaced = 0
        self.size = 0
        self.over = False

    def __iter__(self) -> Iterator[str]:
        """Yield chunks of clean text; stops at the size limit, with `over` set. Raises Refused, OSError."""
        head = self._read().lstrip(b" \t\r\n")
        decoder = codecs.getincrementaldecoder(encoding_of(head))(errors="replace")
        carry, raw = "", head
        while raw:
            text = carry + decoder.decode(raw)
            # A reference or an escape sequence may be split by the chunk border: keep it for the next round.
            cut = max(text.rfind("&", -_TAIL), text.rfind("\x1b", -_TAIL))
            text, carry = (text, "") if cut < 0 else (text[:cut], text[cut:])
            yield self._clean(text)
            raw = self._read()
        yield self._clean(carry + decoder.decode(b"", final=True))

    def _read(self) -> bytes:
        raw = self._stream.read(min(CHUNK, self._left + 1))
        if len(raw) > self._left:
            self.over, raw = True, b""
        self._left -= len(raw)
        self.size += len(raw)
        return raw

    def _clean(self, text: str) -> str:
        if "\x1b" in text or "&#" in text:
            text = _REFERENCE.sub(_legal, _COLOUR.sub("", text))
        text = _CONTROL.sub("\ufffd", text)
        self.replaced += text.count("\ufffd")
        return text


def _legal(match: re.Match[str]) -> str:
    """Keep a reference to a character that XML 1.0 allows, replace any other."""
    code = int(match[1], 16) if match[1] else int(match[2])
    if code in (9, 10, 13) or 32 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF:
        return match[0]
    return "\ufffd"
