"""A worker that does one job and dies at a named point: `python -m tests.runners.dies_here POINT HOME PROJECT PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import faults
from pipeline.db import Database
from runners.engines.docker import DockerEngine
from tests.runners import yard
from tests.runners.stand import settings_in


def main() -> None:
    """Do the first job of the scope `here`, armed."""
    point, home, project, port = sys.argv[1:]
    settings = settings_in(Path(home), PIPE_REGISTRY_PORT=port)
    db = Database.open(settings)
    faults.arm(point)
    yard.do_next(db, settings, DockerEngine(settings, db.installation), Path(project), "here")


if __name__ == "__main__":
    main()
