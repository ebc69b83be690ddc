"""The command `pipe`, as a program and as `python -m pipeline`. What it can do is in `pipeline.cli`.

`pipe --version` is answered before anything else is imported, because shells and
scripts ask it often.
"""

from __future__ import annotations

import gc
import sys

from pipeline import __version__


def main() -> int:
    """Run the command line and return the process's exit code (see `pipeline.cli.exits`)."""
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        print(f"pipe {__version__}")
        return 0
    # Imports make very many objects and no garbage: looking for it every 700 of them takes a tenth of a short command.
    gc.set_threshold(20_000, 20, 50)
    from pipeline.cli.entry import run

    code = run(arguments)
    gc.freeze()  # what ends with the process need not be searched for garbage while it ends
    return code


if __name__ == "__main__":
    sys.exit(main())
