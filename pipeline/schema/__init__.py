"""The tables, as SQLAlchemy Core metadata. What may be done with them is told by the verbs, not here.

Times are UTC epoch seconds (`*_at`). JSON columns hold plain data. Partial unique
indexes are the locks: what must not happen twice is a constraint.
"""

from __future__ import annotations

from pipeline.schema import guards as _guards  # noqa: F401
from pipeline.schema.ground import for_postgresql, metadata
from pipeline.schema.live import decisions, environments, promotions, secrets, steps
from pipeline.schema.results import artifacts, builds, cases, reports
from pipeline.schema.running import attempts, audit, history, installation, jobs, outbox, runs, stages

__all__ = [
    "artifacts",
    "attempts",
    "audit",
    "builds",
    "cases",
    "decisions",
    "environments",
    "for_postgresql",
    "history",
    "installation",
    "jobs",
    "metadata",
    "outbox",
    "promotions",
    "reports",
    "runs",
    "secrets",
    "stages",
    "steps",
]
