"""Tables of what runs: runs, stages, attempts, their jobs, and what is remembered of every move."""

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

installation = Table(
    "installation",
    metadata,
    Column("id", String(36), primary_key=True),  # uuid; the label on every object of ours
    Column("created_at", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    id_(),  # also the run's number
    Column("pipeline", String(63), nullable=False),
    Column("status", String(12), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("event", JSON, nullable=False),  # model.Event as data
    Column("repository", Text, nullable=False),
    Column("branch", Text, nullable=False, server_default=""),
    Column("sha", String(64), nullable=False),
    Column("trusted", Boolean, nullable=False, server_default=text("true")),
    Column("definition_path", Text, nullable=False),
    Column("definition_text", Text, nullable=False),
    Column("definition", JSON, nullable=False),  # the validated definition as data, includes resolved
    Column("environments", JSON, nullable=False),  # the application's environments as they were at the start
    Column("concurrency_group", Text),
    Column("cancel_superseded", Boolean, nullable=False, server_default=text("false")),
    Column("holds_slot", Boolean, nullable=False, server_default=text("false")),  # the one of its group that may run
    Column("scope", String(128), nullable=False, server_default=""),  # local runs: only their own process claims them
    Column("retry_of", Id, ForeignKey("runs.id")),
    Column("cancel_requested_at", Float),
    Column("cancel_by", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Index("ix_runs_pipeline_id", "pipeline", "id"),
    Index("ix_runs_status", "status"),
    Index("uq_runs_concurrency_slot", "concurrency_group", unique=True, **where("holds_slot")),
    sqlite_autoincrement=True,  # a number is never given twice
)

stages = Table(
    "stages",
    metadata,
    id_(),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),  # with the matrix combination: `unit [shard=1]`
    Column("base", String(63), nullable=False),  # as in the file: `unit`
    Column("kind", String(8), nullable=False),
    Column("spec", JSON, nullable=False),  # definition.Stage as data, expanded for this combination
    Column("matrix", JSON, nullable=False),  # this combination, {} without a matrix
    Column("needs", JSON, nullable=False),  # [{stage: <name of a stages row>, optional: bool}]
    Column("line", Integer, nullable=False, server_default="0"),
    Column("status", String(12), nullable=False),
    Column("cause", String(16), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),  # why skipped, failed, errored; for people
    Column("allow_failure", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("outputs", JSON, nullable=False),
    Column("image", JSON),  # model.Image as data, for build and push
    Column("result", JSON, nullable=False),  # what the kind wants to tell: cache report, digest, commands' timing
    Column("cancel_requested_at", Float),  # for this stage alone: a matrix that fails fast, a superseded group
    Column("started_at", Float),
    Column("finished_at", Float),
    UniqueConstraint("run_id", "name"),
    sqlite_autoincrement=True,  # a number is never given twice
)

attempts = Table(
    "attempts",
    metadata,
    id_(),
    Column("stage_id", Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String(12), nullable=False),
    Column("cause", String(16), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("exit_code", Integer),
    Column("worker", Text, nullable=False, server_default=""),
    Column("container", Text, nullable=False, server_default=""),  # its deterministic name: the intent
    Column("commands", JSON, nullable=False),  # [{text, seconds, exit_code}]
    Column("lines", Integer, nullable=False, server_default="0"),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("stage_id", "number"),
    sqlite_autoincrement=True,  # a number is never given twice
)

jobs = Table(
    "jobs",
    metadata,
    id_(),
    Column("kind", String(16), nullable=False),  # stage | promotion | retire
    Column("ref", Id, nullable=False),  # id of the stage or promotion
    Column("run_id", Id),  # the run that it works for, if any: whoever cancels the run finds it
    Column("status", String(8), nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("labels", JSON, nullable=False),  # runs_on
    Column("lock", Text),  # at most one running job per lock
    Column("scope", String(128), nullable=False, server_default=""),
    Column("run_at", Float, nullable=False),
    Column("again_at", Float),  # enqueued while running: queued again when it is finished
    Column("owner", Text),
    Column("token", Integer, nullable=False, server_default="0"),  # fencing token: rises with each claim
    Column("losses", Integer, nullable=False, server_default="0"),  # leases lost
    Column("lease_until", Float),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("kind", "ref"),
    Index("ix_jobs_claim", "status", "priority", "id"),
    Index("uq_jobs_lock_running", "lock", unique=True, **where("status = 'running' AND lock IS NOT NULL")),
    sqlite_autoincrement=True,  # a number is never given twice
)

history = Table(
    "history",
    metadata,
    id_(),
    Column("entity", String(16), nullable=False),  # run | stage | promotion | environment
    Column("ref", Id, nullable=False),
    Column("run_id", Id),
    Column("old", String(20), nullable=False, server_default=""),
    Column("new", String(20), nullable=False),
    Column("by", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("at", Float, nullable=False),
    Index("ix_history_entity_ref", "entity", "ref"),
    Index("ix_history_run_id", "run_id", "id"),
    sqlite_autoincrement=True,  # a number is never given twice
)

audit = Table(
    "audit",
    metadata,
    id_(),
    Column("at", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("origin", Text, nullable=False),  # cli, api, page; with the address
    Column("what", String(40), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,  # a number is never given twice
)

outbox = Table(
    "outbox",
    metadata,
    id_(),
    Column("topic", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("tries", Integer, nullable=False, server_default="0"),
)
