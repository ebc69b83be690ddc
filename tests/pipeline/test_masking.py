"""Masking: no secret in any common form gets through, however the output is cut; innocent text stays as it is."""

from __future__ import annotations

import base64
import json
import random
import string
import urllib.parse

import pytest

from pipeline.lines import LINE_BYTES, LineStream
from pipeline.masking import Masker

KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
    "QyNTUxOQAAACBmu3Zr1Y0dN0p8d2t7m5v8Xw==\n"
    "x9\n"
    "-----END OPENSSH PRIVATE KEY-----\n"
)
LONG_KEY = (
    "-----BEGIN KEY-----\n" + "\n".join(c * 30 + f"/{n}+Z" for n, c in enumerate("abcdefgh")) + "\n-----END KEY-----\n"
)
ACCOUNT = json.dumps({"type": "service_account", "private_key_id": "0a1b2c3d4e5f", "n": 1}, indent=2)
HAND_MADE = [
    "hunter2!",
    "pass",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "postgres://shop:p%40ss/w0rd@db.example:5432/shop?sslmode=require",
    'with "quotes" and \\backslashes\\',
    "tab\tand space",
    "schlüssel-ä-€-\N{KEY}",
    "a+b/c=d&e f",
    "=====padded=====",
    KEY,
    LONG_KEY,
    KEY.replace("\n", "\r\n"),
    ACCOUNT,
    "two\nlines here",
]


def secrets():
    chance = random.Random(29)
    alphabet = string.ascii_letters + string.digits + "+/=_-!$%&@ "
    lengths = [4, 5, 6, 7, 8, 12, 16, 20, 24, 31, 32, 33, 40, 48, 57, 64, 76, 100, 128, 200]
    made = ["".join(chance.choice(alphabet) for _ in range(n)) for n in lengths for _ in range(2)]
    return HAND_MADE + [secret for secret in made if len(secret.strip()) >= 4]


def b64(data, before=b"", after=b""):
    return base64.b64encode(before + data + after)


TRANSFORMS = {
    "raw": lambda s: s,
    "hex": lambda s: s.hex().encode(),
    "HEX": lambda s: s.hex().upper().encode(),
    "url": lambda s: urllib.parse.quote(s, safe="").encode(),
    "url path": lambda s: urllib.parse.quote(s).encode(),
    "url form": lambda s: urllib.parse.quote_plus(s).encode(),
    "json": lambda s: json.dumps({"k": s.decode()}).encode(),
    "json utf-8": lambda s: json.dumps(s.decode(), ensure_ascii=False).encode(),
    "base64": b64,
    "base64 at 1": lambda s: b64(s, b"x"),
    "base64 at 2": lambda s: b64(s, b"xy", b"tail"),
    "base64 of user:secret": lambda s: b64(s, b"user:"),
    "base64 url": lambda s: base64.urlsafe_b64encode(b"?>" + s),
    "base64 twice": lambda s: b64(b64(s)),
    "base64 wrapped": lambda s: b"\n".join(b64(s)[at : at + 76] for at in range(0, len(b64(s)), 76)),
}


def told(stream, pieces):
    return b"".join(stream.take(piece) for piece in pieces) + stream.end()


def traces(secret, name):
    """Return what must not be found in the output: enough of the secret to be worth something."""
    written = TRANSFORMS[name](secret)
    if name.startswith("base64") and name != "base64 wrapped":
        inner = b64(secret) if name == "base64 twice" else secret
        start = {"base64 at 1": 2, "base64 at 2": 3, "base64 of user:secret": 7, "base64 url": 3}.get(name, 0)
        certain = written[start : start + len(inner) * 8 // 6 - 1]
        return [certain] if len(certain) >= 6 else []
    if name == "json":
        return [json.dumps(secret.decode())[1:-1].encode()]
    return [line.strip() for line in written.split(b"\n") if len(line.strip()) >= 4 and b"-----" not in line] or [
        written
    ]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_secret_gets_through_wherever_the_output_is_cut(name):
    leaks = []
    cuts = 0
    for secret in secrets():
        data = secret.encode()
        text = b"before " + TRANSFORMS[name](data) + b" after\nnext line\n"
        masker = Masker([secret])
        watched = [trace for trace in traces(data, name) if not _innocent(trace)]
        for at in range(len(text) + 1):
            cuts += 1
            output = told(LineStream(masker), [text[:at], text[at:]])
            leaks += [(secret, at, trace) for trace in watched if trace in output]
            assert output.count(b"\n") == text.count(b"\n")
            assert output.startswith(b"before ")
            assert output.endswith(b"next line\n")
    assert leaks == []
    assert cuts > 3000


def _innocent(trace):
    """Tell whether a line of a secret is no secret: braces, armour."""
    return sum(chr(byte).isalnum() for byte in trace) < 4


def test_many_secrets_at_once_in_output_cut_into_single_bytes():
    chosen = secrets()
    stream = LineStream(Masker(chosen))
    text = b"".join(name.encode() + b": " + TRANSFORMS[name](s.encode()) + b"\n" for s in chosen for name in TRANSFORMS)
    output = told(stream, [text[at : at + 1] for at in range(len(text))])
    assert output.count(b"\n") == text.count(b"\n")
    for secret in chosen:
        for name in TRANSFORMS:
            for trace in traces(secret.encode(), name):
                assert _innocent(trace) or trace not in output, (secret, name)


def test_each_line_of_a_secret_is_masked_alone():
    stream = LineStream(Masker([KEY]))
    output = told(stream, [b"found: QyNTUxOQAAACBmu3Zr1Y0dN0p8d2t7m5v8Xw== in a file\n"])
    assert output == b"found: *** in a file\n"


def test_even_short_lines_of_a_secret_are_masked_inside_of_it():
    text = f"key:\n{KEY}done x9\n".encode()
    for at in range(len(text)):
        output = told(LineStream(Masker([KEY])), [text[:at], text[at:]])
        assert output == b"key:\n***\n***\n***\n***\n***\ndone x9\n"


def test_the_armour_of_a_key_and_the_braces_of_an_account_are_no_secrets():
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n{\n}\n"
    assert told(LineStream(Masker([KEY, ACCOUNT])), [text]) == text


def test_innocent_text_stays_as_it_is():
    chance = random.Random(7)
    sentence = "the build test passed failed in 0.12s 42 GET /api/items?page=2 200 OK sha256:0a1b2c pass through user"
    words = sentence.split()
    lines = [" ".join(chance.choice(words) for _ in range(12)) for _ in range(20_000)]
    text = ("\n".join(lines) + "\n").encode()
    masker = Masker([secret for secret in secrets() if secret != "pass"])
    masked = masker.mask(text)
    assert masked == text


def test_very_short_secrets_and_empty_ones_mask_nothing():
    for secret in ("", "a", "abc", "  x ", "\n"):
        masker = Masker([secret])
        assert not masker
        assert masker.mask(b"abc a  x \n\n") == b"abc a  x \n\n"


def test_secrets_side_by_side_and_overlapping_are_masked_as_one():
    masker = Masker(["abcdef", "defghi", "defg"])
    assert masker.mask(b"<abcdefghi> <abcdefabcdef> <defg>") == b"<***> <******> <***>"


def test_a_secret_at_the_place_where_a_long_line_is_cut_does_not_show_its_beginning():
    secret = "S3cr3tS3cr3tS3cr3tS3cr3t"
    for at in range(LINE_BYTES - 60, LINE_BYTES + 40, 3):
        text = b"x" * at + secret.encode() + b"y" * 200_000 + b"\nnext\n"
        output = told(LineStream(Masker([secret])), [text[n : n + 50_000] for n in range(0, len(text), 50_000)])
        assert b"S3cr" not in output
        first, second, rest = output.split(b"\n")
        assert (second, rest) == (b"next", b"")
        assert len(first) < LINE_BYTES + 100
        assert first.endswith(b"bytes more were cut]")


def test_text_of_our_own_is_masked_too():
    assert Masker(["hunter2!"]).mask_text("login with hunter2! failed") == "login with *** failed"


def test_each_line_of_a_secret_is_masked_in_its_other_forms_too():
    line = b"QyNTUxOQAAACBmu3Zr1Y0dN0p8d2t7m5v8Xw=="
    masker = Masker([KEY])
    for name in ("hex", "url", "base64"):
        assert masker.mask(b"<" + TRANSFORMS[name](line) + b">").startswith(b"<***")
