"""What the views are told of a run's promotions, read from the records of the swap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.cli.view_board import PromotionSeen
from pipeline.model import Run, StageRun

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.environments import Standing
    from pipeline.promotions import Promotion
    from pipeline.settings import Settings


def promotions_of(db: Database, settings: Settings, run: Run, stages: Iterable[StageRun]) -> list[PromotionSeen]:
    """Return the promotions that this run's stages asked for, as they are now."""
    names = {stage.id: stage.name for stage in stages if stage.kind == "promote"}
    if not names:
        return []
    from pipeline import environments, promotions

    standings = {standing.id: standing for standing in environments.listing(db, application=run.pipeline)}
    return [
        seen(settings, row, standings[row.environment_id], names[row.stage_id], at=db.now())
        for row in reversed(promotions.listing(db, run_id=run.id))
        if row.stage_id in names and row.environment_id in standings
    ]


def seen(settings: Settings, row: Promotion, standing: Standing, stage: str, *, at: float) -> PromotionSeen:
    """Return a promotion as the views are told of it."""
    public, preview = urls(settings, standing)
    return PromotionSeen(
        id=row.id,
        stage=stage,
        environment=standing.name,
        status=str(row.status),
        phase=row.phase,
        colour=str(row.colour or ""),
        url=public if row.switched_at else "",
        preview=preview if row.begun else "",
        until=row.bake_until if row.phase == "baking" else row.expires_at,
        reason=row.error or row.reason,
        first=standing.live_promotion == row.id and standing.warm_promotion is None,
        at=at,
    )


def urls(settings: Settings, standing: Standing) -> tuple[str, str]:
    """Return where people reach an environment, and where its colour that is not live answers."""
    bound = settings.hostname if settings.bind_address == "0.0.0.0" else settings.bind_address
    name = (standing.spec.get("public") or {}).get("host") or ""
    if name:
        public = f"http://{name}" + ("" if settings.shared_port == 80 else f":{settings.shared_port}")
    else:
        public = f"http://{bound}:{standing.port}" if standing.port else ""
    return public, f"http://127.0.0.1:{standing.preview_port}" if standing.preview_port else ""
