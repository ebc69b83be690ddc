"""Two hundred archives that mean harm, made from a seed; each says what may come out of it and what must not."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512


@dataclass(frozen=True)
class Hostile:
    """An archive, the files that are innocent in it, and whether it may be refused as a whole."""

    name: str
    data: bytes
    innocent: frozenset[str]
    whole: bool = False  # refused as a whole is fine


def member(
    name: str | bytes, content: bytes = b"evil", kind: bytes = b"0", link: bytes = b"", **fields: int | bytes
) -> bytes:
    """Return one raw member: any name, any type, any size that the header may claim."""
    raw = name.encode() if isinstance(name, str) else name
    size = fields.get("size", len(content))
    sized = b"%011o\0" % size if isinstance(size, int) else size
    header = raw[:100].ljust(100, b"\0") + b"%07o\0" % fields.get("mode", 0o644) + b"0000000\0" * 2  # type: ignore[operator]
    header += sized + b"%011o\0" % 0 + b" " * 8 + kind + link[:100].ljust(100, b"\0") + b"ustar\x0000"
    header = header.ljust(BLOCK, b"\0")
    total = fields.get("checksum", sum(header))
    header = header[:148] + b"%06o\0 " % total + header[156:]  # type: ignore[operator]
    return header + content + bytes(-len(content) % BLOCK)


def pax(records: dict[str, str | bytes]) -> bytes:
    """Return a pax header for the member that follows."""
    data = b""
    for key, value in records.items():
        body = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        data += str(length).encode() + body
    return member("pax", data, b"x")


def long_name(name: str | bytes) -> bytes:
    """Return a GNU header that gives the member that follows its name."""
    return member("././@LongLink", (name.encode() if isinstance(name, str) else name) + b"\0", b"L")


END = bytes(2 * BLOCK)
GOOD = member("good.txt", b"good")
NAMES = [
    *("../evil", "../../../../../../etc/cron.d/evil", "/etc/passwd", "//etc/passwd", "a/../../evil", ".."),
    *("a/b/../../../evil", "./../evil", "a//..//..//evil", "evil\nname", "evil\rname", "evil\x1b[2Jname", "evil\x7f"),
    *("a/\x01/b", "/", "/proc/self/mem", "../.git/hooks/post-checkout", "x" * 99 + "/../../evil", "a/./../../b"),
    "\t../evil",
]
LINKS = ["/etc/passwd", "../../etc/passwd", "good.txt", ".", "..", "/", "/proc/self/environ"]


def archives() -> Iterator[Hostile]:
    """Yield them all."""
    good = frozenset({"good.txt"})
    for name in NAMES:
        yield Hostile(f"name {name!r}", GOOD + member(name) + END, good)
        yield Hostile(f"long name {name!r}", long_name(name) + member("x") + GOOD + END, good)
        yield Hostile(f"pax name {name!r}", pax({"path": name}) + member("x") + GOOD + END, good)
    for target in LINKS:
        for kind, word in ((b"1", "hard"), (b"2", "symbolic")):
            chain = member("dir", b"", kind, target.encode()) + member("dir/evil")
            yield Hostile(f"{word} link to {target}", GOOD + member("link", b"", kind, target.encode()) + END, good)
            yield Hostile(f"{word} link chain to {target}", chain + GOOD + END, good | {"dir/evil"})
            same = member("twice", b"", kind, target.encode()) + member("twice", b"plain file")
            yield Hostile(f"{word} link and file of one name, {target}", same + GOOD + END, good | {"twice"})
    for kind in (b"3", b"4", b"6", b"S", b"M", b"V", b"A", b"Z", b"\xff", b"s"):
        yield Hostile(f"kind {kind!r}", member("evil", b"", kind) + GOOD + END, good)
        yield Hostile(f"kind {kind!r} with content", GOOD + member("evil", b"evil", kind) + END, good, whole=True)
    for raw in (b"\xff\xfe\xfd", b"caf\xe9", b"\xed\xa0\x80surrogate", b"\xc0\xafoverlong"):
        yield Hostile(f"bytes {raw!r}", GOOD + member(raw) + END, good)
        yield Hostile(f"pax bytes {raw!r}", pax({"path": raw}) + member("x") + GOOD + END, good)
    for length in (256, 1025, 4097, 60_000):
        yield Hostile(f"a part of {length}", long_name("x" * length) + member("x") + GOOD + END, good)
        yield Hostile(f"a path of {length}", long_name("d/" * (length // 2) + "x") + member("x") + GOOD + END, good)
    yield from _broken(good)
    yield from _shuffled(good)


def _broken(good: frozenset[str]) -> Iterator[Hostile]:
    """Archives that lie about themselves."""
    claims = [
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"\x80" + bytes(3) + b"\x7f" * 8,
        b"-0000000001\0",
        b"zzzzzzzzzzz\0",
    ]
    claims += [b"%011o\0" % size for size in (8**11 - 1, 10 * 1024**3, 5, 600)]
    for claim in claims:
        yield Hostile(f"size {claim!r}", GOOD + member("evil", b"evil", size=claim) + END, good, whole=True)
        yield Hostile(
            f"long name of size {claim!r}", GOOD + member("L", b"evil\0", b"L", size=claim) + END, good, whole=True
        )
        yield Hostile(
            f"pax of size {claim!r}", GOOD + member("x", b"9 path=a\n", b"x", size=claim) + END, good, whole=True
        )
    records = [
        b"",
        b"0 a=b\n",
        b"99999999999 path=x\n",
        b"x path=evil\n",
        b"-5 path=x\n",
        b"9",
        b"3 \n",
        b"30 path=../evil\n",
    ]
    for record in records:
        yield Hostile(
            f"pax record {record!r}", GOOD + member("p", record, b"x") + member("a") + END, good | {"a"}, whole=True
        )
    for size in ("99999999999999999999", "-1", "x", "", "18446744073709551617"):
        yield Hostile(f"pax size {size!r}", GOOD + pax({"size": size}) + member("a") + END, good, whole=True)
    yield Hostile("sparse in pax", pax({"GNU.sparse.realsize": "99999999999"}) + member("evil") + GOOD + END, good)
    yield Hostile("wrong checksum", GOOD + member("evil", checksum=1) + END, good, whole=True)
    yield Hostile("garbage", GOOD + random.Random(1).randbytes(5000), good, whole=True)
    yield Hostile("nothing but garbage", random.Random(2).randbytes(50_000), frozenset(), whole=True)
    yield Hostile("text", b"this is no archive\n" * 200, frozenset(), whole=True)
    yield Hostile("pax after pax without end", GOOD + pax({"comment": "x" * 400}) * 3000, good, whole=True)
    for cut in (1, 100, 511, 513, 700, 1023):
        yield Hostile(f"cut at {cut}", (GOOD + member("evil", b"x" * 3000))[: 1024 + cut], good, whole=True)


def _shuffled(good: frozenset[str]) -> Iterator[Hostile]:
    """A sound archive with bytes changed at random: whatever it says then, nothing harmful comes out."""
    chance = random.Random(24)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("good.txt", "d/" * 60 + "deep.txt", "ünïcode.txt"):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(b"x" * 700))
    sound = whole.getvalue()
    for number in range(60):
        data = bytearray(sound)
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(len(data) - 10_000)] = chance.randrange(256)
        yield Hostile(f"shuffled {number}", bytes(data), good, whole=True)
