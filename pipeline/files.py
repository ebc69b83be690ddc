"""Read a definition's file from disk without being led astray: inside its root, regular, and small.

Symlinks are followed only as long as they stay inside the root; pipes and devices are refused, so that
no file can hang or fill the process. What is in the file is `yamltree`'s business.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import DefinitionError
from pipeline.yamltree import MAX_BYTES


def read(path: Path, shown: str, root: Path | None = None) -> bytes:
    """Return at most MAX_BYTES + 1 bytes of a file. Raises DefinitionError when it can not or may not be read."""
    try:
        real = path.resolve(strict=True)
        if root is not None and not real.is_relative_to(root.resolve()):
            raise DefinitionError(f"{shown}: leads out of {root}", hint="a definition lies inside its repository")
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DefinitionError(f"{shown}: there is no such file", hint="`pipe init` writes a pipe.yml") from None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: symlinks in a circle; ValueError: a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise DefinitionError(f"{shown}: can not be read: {reason}", hint="look at its permissions") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DefinitionError(f"{shown}: is not a regular file", hint="name a file")
    with os.fdopen(handle, "rb") as file:
        return file.read(MAX_BYTES + 1)
