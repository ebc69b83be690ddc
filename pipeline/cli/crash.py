"""Keep what is needed to understand a defect of ours, in a file, so that no one has to read a traceback.

Only exceptions that nobody expected come here; everything else is a `PipeError` with a hint.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline import __version__

_KEEP = 20  # files; older ones are removed


def save(error: BaseException, arguments: Sequence[str], folder: Path) -> Path | None:
    """Write the trace of `error` into `folder` and return the file, or None where nothing can be written."""
    import os
    import platform
    import time

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"{stamp}-{os.getpid()}.txt"
    head = [
        f"pipe {__version__}, Python {sys.version.split()[0]}, {platform.platform()}",
        f"command: pipe {' '.join(arguments)}",
        "",
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(head) + "\n" + "".join(traceback.format_exception(error)), encoding="utf-8")
        for old in sorted(folder.glob("*.txt"))[:-_KEEP]:
            old.unlink(missing_ok=True)
    except OSError:
        return None
    return path


def one_line(error: BaseException) -> str:
    """Return the kind and message of `error` as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
