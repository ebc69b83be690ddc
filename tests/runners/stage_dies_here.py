"""A worker that does one command stage and dies at a crash point: `python -m tests.runners.stage_dies_here …`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import queue
from pipeline.faults import arm, point
from tests.runners.stage_stand import Stand, claimed, opened


def main(home: str, source: str, crash_at: str) -> None:
    stand = opened(Path(home), Path(source), owner="dead")
    arm(crash_at)
    stand.do(claimed(stand, name="dead"))
    point("recorded")
    stand.cleanup.join()


def take_over(stand: Stand) -> None:
    """Give the dead worker's jobs back to the queue, as `pipe run --resume` does."""
    with stand.db.write() as tx:
        queue.take_over(tx, "here", "here")


if __name__ == "__main__":
    main(*sys.argv[1:])
