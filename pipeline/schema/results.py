"""Tables of what stages leave behind: test reports, artifacts, builds."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from pipeline.schema.ground import Id, id_, metadata

reports = Table(
    "reports",
    metadata,
    id_(),
    Column("stage_id", Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    UniqueConstraint("stage_id", "attempt", "path"),
)

cases = Table(
    "cases",
    metadata,
    id_(),
    Column("stage_id", Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("case_key", String(40), nullable=False),  # stable across runs: hash of the stage's name and the case's id
    Column("test", Text, nullable=False),  # the case's id
    Column("suite", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("classname", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("status", String(8), nullable=False),
    Column("seconds", Float),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("attempts", Integer, nullable=False),  # within its report: reruns
    Index("ix_cases_stage_status", "stage_id", "attempt", "status"),
    Index("ix_cases_pipeline_key", "pipeline", "case_key", "id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    id_(),
    Column("stage_id", Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),  # also its key in the store
    Column("mode", Integer, nullable=False),
    Column("expires_at", Float),
    UniqueConstraint("stage_id", "attempt", "path"),
)

builds = Table(
    "builds",
    metadata,
    id_(),
    Column("stage_id", Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("base", String(63), nullable=False),  # the stage's name
    Column("branch", Text, nullable=False),
    Column("image_id", String(80), nullable=False),
    Column("files", JSON, nullable=False),  # what went in: path -> hash, per instruction; args -> hash
    Column("steps", JSON, nullable=False),  # per instruction: hit, seconds, why
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("used_at", Float, nullable=False),  # last built or run from: the disk budget removes the oldest first
    Column("created_at", Float, nullable=False),
    Index("ix_builds_lookup", "pipeline", "base", "branch", "id"),
)
