"""Read a clone's index, and tell it the times that its files were given, so that git need not read them again.

Only of clones that we have just made: version 2 as `git read-tree` writes it (gitformat-index), names of
files and their times. Everything else about an index is git's.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import Unavailable

_HEADER = struct.Struct(">4sII")
_TIMES = struct.Struct(">II")
_FACTS = struct.Struct(">10I")  # ctime and mtime in two parts each, device, inode, mode, user, group, size
_EXTENDED = 0x4000
_SUBMODULE = 0o16


def take_times(top: Path, tree: Path, *, sha: str, but: Collection[str]) -> None:
    """Give the files of `tree` the times that they have in `top`, in the index as well; `but` are other files there.

    A file of another size is left alone: it is not the same, whatever git says (line endings, a missing file).
    """
    path = tree / ".git/index"
    data = bytearray(path.read_bytes())
    hash_bytes = len(sha) // 2
    magic, version, count = _HEADER.unpack_from(data)
    if magic != b"DIRC" or version != 2:
        raise Unavailable(f"git wrote an index of version {version}, which is not known here", hint="Which git is it?")
    at = _HEADER.size
    source, target = os.fsencode(top), os.fsencode(tree)
    for _ in range(count):
        facts = _FACTS.unpack_from(data, at)
        begin = at + _FACTS.size + hash_bytes + 2
        if data[begin - 2] << 8 & _EXTENDED:
            begin += 2
        end = data.index(b"\0", begin)
        name = bytes(data[begin:end])
        if facts[6] >> 12 != _SUBMODULE and os.fsdecode(name) not in but:
            seen = _time(source, target, name, facts[9])
            if seen is not None:
                _TIMES.pack_into(data, at + 8, seen // 10**9 & 0xFFFFFFFF, seen % 10**9)
        at += (end - at + 8) // 8 * 8
    digest = hashlib.sha256 if hash_bytes == 32 else hashlib.sha1
    data[-hash_bytes:] = digest(data[:-hash_bytes]).digest()
    making = path.with_name("index.making")
    making.write_bytes(data)
    making.rename(path)


def _time(source: bytes, target: bytes, name: bytes, size: int) -> int | None:
    """Take over the time of one file, and return it in nanoseconds; None where it is not the same file."""
    try:
        seen = os.lstat(source + b"/" + name)
        if seen.st_size & 0xFFFFFFFF != size or stat.S_ISDIR(seen.st_mode):
            return None
        os.utime(target + b"/" + name, ns=(seen.st_mtime_ns, seen.st_mtime_ns), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):  # not checked out there (sparse), or gone meanwhile
        return None
    return seen.st_mtime_ns
