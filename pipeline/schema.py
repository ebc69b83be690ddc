"""The tables, as SQLAlchemy Core metadata. What may be done with them is told by the verbs, not here.

Times are UTC epoch seconds (`*_at`). JSON columns hold plain data. Partial unique
indexes are the locks: what must not happen twice is a constraint.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


def _id() -> Column[int]:
    return Column("id", _Id, primary_key=True, autoincrement=True)


installation = Table(
    "installation",
    metadata,
    Column("id", String(36), primary_key=True),  # uuid; the label on every object of ours
    Column("created_at", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    _id(),  # also the run's number
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
    Column("scope", String(64), nullable=False, server_default=""),  # local runs: only their own process claims them
    Column("retry_of", _Id, ForeignKey("runs.id")),
    Column("cancel_requested_at", Float),
    Column("cancel_by", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Index("ix_runs_pipeline_id", "pipeline", "id"),
    Index("ix_runs_status", "status"),
    Index(
        "uq_runs_concurrency_slot",
        "concurrency_group",
        unique=True,
        sqlite_where=text("holds_slot"),
        postgresql_where=text("holds_slot"),
    ),
)

stages = Table(
    "stages",
    metadata,
    _id(),
    Column("run_id", _Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
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
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    Column("stage_id", _Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
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
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),  # stage | promotion | retire
    Column("ref", _Id, nullable=False),  # id of the stage or promotion
    Column("run_id", _Id),  # the run that it works for, if any: whoever cancels the run finds it
    Column("status", String(8), nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("labels", JSON, nullable=False),  # runs_on
    Column("lock", Text),  # at most one running job per lock
    Column("scope", String(64), nullable=False, server_default=""),
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
    Index(
        "uq_jobs_lock_running",
        "lock",
        unique=True,
        sqlite_where=text("status = 'running' AND lock IS NOT NULL"),
        postgresql_where=text("status = 'running' AND lock IS NOT NULL"),
    ),
)

history = Table(
    "history",
    metadata,
    _id(),
    Column("entity", String(16), nullable=False),  # run | stage | promotion | environment
    Column("ref", _Id, nullable=False),
    Column("run_id", _Id),
    Column("old", String(20), nullable=False, server_default=""),
    Column("new", String(20), nullable=False),
    Column("by", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("at", Float, nullable=False),
    Index("ix_history_entity_ref", "entity", "ref"),
    Index("ix_history_run_id", "run_id", "id"),
)

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("origin", Text, nullable=False),  # cli, api, page; with the address
    Column("what", String(40), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

reports = Table(
    "reports",
    metadata,
    _id(),
    Column("stage_id", _Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    UniqueConstraint("stage_id", "attempt", "path"),
)

cases = Table(
    "cases",
    metadata,
    _id(),
    Column("report_id", _Id, ForeignKey("reports.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("case_key", String(40), nullable=False),  # stable across runs: stage, suite, class, name
    Column("name", Text, nullable=False),
    Column("suite", Text, nullable=False, server_default=""),
    Column("status", String(8), nullable=False),
    Column("seconds", Float, nullable=False, server_default="0"),
    Column("message", Text, nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
    Column("output", Text, nullable=False, server_default=""),
    Index("ix_cases_report_id_status", "report_id", "status"),
    Index("ix_cases_pipeline_key", "pipeline", "case_key", "id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    _id(),
    Column("stage_id", _Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
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
    _id(),
    Column("stage_id", _Id, ForeignKey("stages.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline", String(63), nullable=False),
    Column("base", String(63), nullable=False),  # the stage's name
    Column("branch", Text, nullable=False),
    Column("image_id", String(80), nullable=False),
    Column("files", JSON, nullable=False),  # what went in: path -> hash, per instruction; args -> hash
    Column("steps", JSON, nullable=False),  # per instruction: hit, seconds, why
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("used_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_builds_lookup", "pipeline", "base", "branch", "id"),
)

environments = Table(
    "environments",
    metadata,
    _id(),
    Column("application", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("spec", JSON, nullable=False),  # definition.Environment as last promoted
    Column("subnet", String(43), unique=True),
    Column("port", Integer, unique=True),
    Column("preview_port", Integer, unique=True),
    Column("live_colour", String(5)),
    Column("live_promotion", _Id),
    Column("live_since", Float),
    Column("warm_promotion", _Id),
    Column("warm_until", Float),
    Column("epoch", Integer, nullable=False, server_default="0"),  # fencing token of the route
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("application", "name"),
)

promotions = Table(
    "promotions",
    metadata,
    _id(),
    Column("environment_id", _Id, ForeignKey("environments.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # deploy | rollback
    Column("status", String(16), nullable=False),
    Column("phase", String(16), nullable=False, server_default=""),
    Column("run_id", _Id, ForeignKey("runs.id")),
    Column("stage_id", _Id, ForeignKey("stages.id")),
    Column("rollback_of", _Id, ForeignKey("promotions.id")),
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
    Index(
        "uq_promotions_deploying",
        "environment_id",
        unique=True,
        sqlite_where=text("status = 'deploying'"),
        postgresql_where=text("status = 'deploying'"),
    ),
    Index(
        "uq_promotions_stage",
        "stage_id",
        unique=True,
        sqlite_where=text("stage_id IS NOT NULL"),
        postgresql_where=text("stage_id IS NOT NULL"),
    ),
)

steps = Table(
    "promotion_steps",
    metadata,
    _id(),
    Column("promotion_id", _Id, ForeignKey("promotions.id"), nullable=False),
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
    _id(),
    Column("promotion_id", _Id, ForeignKey("promotions.id"), nullable=False),
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
    _id(),
    Column("scope", String(128), nullable=False),  # "" for all, a pipeline's name, or application.environment
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),  # rows are only added: a rollback takes the version of its time
    Column("value", Text),  # encrypted with the installation's key; NULL once withdrawn
    Column("by", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("scope", "name", "version"),
)

outbox = Table(
    "outbox",
    metadata,
    _id(),
    Column("topic", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("tries", Integer, nullable=False, server_default="0"),
)
