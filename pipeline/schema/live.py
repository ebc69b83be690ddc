"""Tables of what is live: environments, promotions with their steps and decisions, secrets."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from pipeline.schema.ground import Id, id_, metadata, where

environments = Table(
    "environments",
    metadata,
    id_(),
    Column("application", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("spec", JSON, nullable=False),  # definition.Environment as last promoted
    Column("subnet", String(43), unique=True),
    Column("port", Integer, unique=True),
    Column("preview_port", Integer, unique=True),
    Column("live_colour", String(5)),
    Column("live_promotion", Id),
    Column("live_since", Float),
    Column("warm_promotion", Id),
    Column("warm_until", Float),
    Column("epoch", Integer, nullable=False, server_default="0"),  # fencing token of the route
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("application", "name"),
    sqlite_autoincrement=True,  # a number is never given twice
)

promotions = Table(
    "promotions",
    metadata,
    id_(),
    Column("environment_id", Id, ForeignKey("environments.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # deploy | rollback
    Column("status", String(16), nullable=False),
    Column("phase", String(16), nullable=False, server_default=""),
    Column("run_id", Id, ForeignKey("runs.id")),
    Column("stage_id", Id, ForeignKey("stages.id")),
    Column("rollback_of", Id, ForeignKey("promotions.id")),
    Column("release", JSON, nullable=False),  # runners' Release as data: images by digest, processes, env, hashes
    Column("colour", String(5)),  # where it goes, once locked
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("binding", String(64), nullable=False),  # hash of what an approval is bound to
    Column("policy", JSON, nullable=False),  # approval rules and requirements at the request
    Column("reason", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("evidence", JSON, nullable=False),  # observations per phase
    Column("requested_by", Text, nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("ready_by", Float),
    Column("switched_at", Float),
    Column("bake_until", Float),
    Column("drain_until", Float),
    Column("finished_at", Float),
    Index("ix_promotions_environment", "environment_id", "id"),
    Index("uq_promotions_deploying", "environment_id", unique=True, **where("status = 'deploying'")),
    Index("uq_promotions_stage", "stage_id", unique=True, **where("stage_id IS NOT NULL")),
    sqlite_autoincrement=True,  # a number is never given twice
)

steps = Table(
    "promotion_steps",
    metadata,
    id_(),
    Column("promotion_id", Id, ForeignKey("promotions.id"), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("intent", JSON, nullable=False),
    Column("observed", JSON),
    Column("intent_at", Float, nullable=False),
    Column("done_at", Float),
    Index("ix_promotion_steps_promotion", "promotion_id", "id"),
)

decisions = Table(
    "decisions",
    metadata,
    id_(),
    Column("promotion_id", Id, ForeignKey("promotions.id"), nullable=False),
    Column("person", Text, nullable=False),
    Column("verdict", String(8), nullable=False),  # approve | reject
    Column("comment", Text, nullable=False, server_default=""),
    Column("binding", String(64), nullable=False),
    Column("via", String(16), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("promotion_id", "person"),
)

secrets = Table(
    "secrets",
    metadata,
    id_(),
    Column("scope", String(128), nullable=False),  # "" for all, a pipeline's name, or application.environment
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),  # rows are only added: a rollback takes the version of its time
    Column("value", Text),  # encrypted with the installation's key; NULL once withdrawn
    Column("by", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("scope", "name", "version"),
)
