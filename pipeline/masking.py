"""Secrets taken out of output before it is stored. A courtesy against accidents, not a boundary.

What is looked for: the secret itself, each line of it, and both as URL, JSON string, hexadecimal, base64
(at all three alignments, also wrapped) and base64 of base64. Whoever controls a command can
always print a secret in some other form; the boundary is which stage is given which secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Iterable

MASK = b"***"
SHORTEST = 4  # bytes; anything shorter would mask innocent text everywhere
SHORTEST_ENCODED = 6
LINES_WRITTEN = 3  # a secret of more lines (a key) is looked for line by line as it is, and as a whole in other forms
WRAPS = (76, 64)  # columns at which base64 and openssl break their lines
_ARMOUR = re.compile(rb"-----(BEGIN|END)[A-Z0-9 ]*-----")


class Masker:
    """Knows the forms of some secrets; has no state, so threads may share it."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        """Compute the forms once; empty and very short secrets are left out."""
        found: set[bytes] = set()
        for secret in secrets:
            found |= forms(secret if isinstance(secret, bytes) else secret.encode())
        one_line = {form for form in found if b"\n" not in form}
        # a form that contains another one is still looked for: it is masked as a whole
        self.lines = tuple(sorted(one_line, key=lambda form: (-len(form), form)))
        self.blocks = tuple(sorted(found - one_line, key=lambda form: (-len(form), form)))
        self.longest = max((len(form) for form in found), default=0)
        self._beginnings = tuple(
            sorted({block[: at + 1] for block in self.blocks for at in range(len(block) - 1) if block[at] == 10})
        )

    def __bool__(self) -> bool:
        return bool(self.lines or self.blocks)

    def mask(self, data: bytes) -> bytes:
        """Return `data` with every known form replaced; line ends inside a form stay, so lines keep their numbers."""
        spans = self.spans(data)
        if not spans:
            return data
        pieces: list[bytes] = []
        at = 0
        for start, end in spans:
            pieces += (data[at:start], _masked(data[start:end]))
            at = end
        pieces.append(data[at:])
        return b"".join(pieces)

    def mask_text(self, text: str) -> str:
        """Return a text with every known form replaced."""
        return self.mask(text.encode(errors="replace")).decode(errors="replace")

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where known forms are, in order and without overlaps."""
        found: list[tuple[int, int]] = []
        for form in self.lines + self.blocks:
            at = data.find(form)
            while at >= 0:
                found.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return _merged(found)

    def undecided(self, data: bytes) -> int:
        """Return how many bytes at the end of `data`, which ends with a whole line, may begin a form of many lines."""
        return max((len(start) for start in self._beginnings if data.endswith(start)), default=0)


def forms(secret: bytes) -> set[bytes]:
    """Return every form of a secret that is looked for; none for a secret shorter than `SHORTEST`."""
    found: set[bytes] = set()
    whole = secret.strip(b"\r\n")
    unix = whole.replace(b"\r\n", b"\n")
    lines = [line for line in map(bytes.strip, whole.splitlines()) if len(line) >= SHORTEST and _tells(line)]
    if len(whole.strip()) >= SHORTEST:
        found |= {whole, unix, unix.replace(b"\n", b"\r\n"), *lines}
        written = {whole, unix, *(lines if len(lines) <= LINES_WRITTEN else ())}
        found |= {form for text in written for form in _written(text)}
    return {form for form in found if len(form.strip()) >= SHORTEST}


def _tells(line: bytes) -> bool:
    """Tell whether a line of a secret is secret: not the armour of a key, not mere punctuation."""
    return not _ARMOUR.fullmatch(line) and sum(chr(byte).isalnum() for byte in line) >= SHORTEST


def _written(text: bytes) -> set[bytes]:
    """Return how programs write a text down."""
    hexadecimal = binascii.hexlify(text)
    found = {hexadecimal, hexadecimal.upper(), hexadecimal.replace(b"0x", b"")}
    found |= {urllib.parse.quote_from_bytes(text, safe=safe).encode() for safe in ("", "/", "/:@!$&'()*+,;=~")}
    found.add(urllib.parse.quote_plus(text).encode())
    found |= {re.sub(rb"%[0-9A-F]{2}", lambda m: m[0].lower(), form) for form in found if b"%" in form}
    decoded = text.decode(errors="replace")
    for ascii_only in (True, False):
        written = json.dumps(decoded, ensure_ascii=ascii_only)[1:-1].encode()
        found |= {written, written.replace(b"/", rb"\/")}
    encoded = _base64(text)
    for form in encoded | {base64.b64encode(text)}:
        found |= _base64(form)
    found |= encoded
    found |= {
        _wrapped(base64.b64encode(text)[: 8 * len(text) // 6], columns)
        for columns in WRAPS
        if len(text) * 4 // 3 > columns
    }
    return {form for form in found if len(form) >= SHORTEST_ENCODED or form == text}


def _base64(text: bytes) -> set[bytes]:
    """Return what is certain of a text's base64 at each of the three alignments, whatever surrounds it.

    What is left over beside it is at most one digit at each end, which tells less than one byte.
    """
    found = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            start, end = -(-8 * before // 6), 8 * (before + len(text)) // 6
            found.add(encode(b"\0" * before + text)[start:end])
        if 8 * len(text) // 6 < SHORTEST_ENCODED:
            found.add(encode(text))
    return {form for form in found if len(form) >= SHORTEST_ENCODED}


def _wrapped(encoded: bytes, columns: int) -> bytes:
    return b"\n".join(encoded[at : at + columns] for at in range(0, len(encoded), columns))


def _masked(piece: bytes) -> bytes:
    """Return the mask, with the line ends that the piece has."""
    return MASK if b"\n" not in piece else b"\n".join(MASK if line.strip() else line for line in piece.split(b"\n"))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
