"""Make the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Bring an empty database to the first schema."""
    op.create_table(
        "audit",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.UniqueConstraint("hash", name="uq_audit_hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "environments",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("application", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("subnet", sa.String(length=43)),
        sa.Column("port", sa.Integer()),
        sa.Column("preview_port", sa.Integer()),
        sa.Column("live_colour", sa.String(length=5)),
        sa.Column("live_promotion", _Id),
        sa.Column("live_since", sa.Float()),
        sa.Column("warm_promotion", _Id),
        sa.Column("warm_until", sa.Float()),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
        sa.UniqueConstraint("application", "name", name="uq_environments_application"),
        sa.UniqueConstraint("port", name="uq_environments_port"),
        sa.UniqueConstraint("preview_port", name="uq_environments_preview_port"),
        sa.UniqueConstraint("subnet", name="uq_environments_subnet"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "history",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("entity", sa.String(length=16), nullable=False),
        sa.Column("ref", _Id, nullable=False),
        sa.Column("run_id", _Id),
        sa.Column("old", sa.String(length=20), server_default="", nullable=False),
        sa.Column("new", sa.String(length=20), nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_history_entity_ref", "history", ["entity", "ref"], unique=False)
    op.create_index("ix_history_run_id", "history", ["run_id", "id"], unique=False)
    op.create_table(
        "installation",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ref", _Id, nullable=False),
        sa.Column("run_id", _Id),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("lock", sa.Text()),
        sa.Column("scope", sa.String(length=128), server_default="", nullable=False),
        sa.Column("run_at", sa.Float(), nullable=False),
        sa.Column("again_at", sa.Float()),
        sa.Column("owner", sa.Text()),
        sa.Column("token", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.Float()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("kind", "ref", name="uq_jobs_kind"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_claim", "jobs", ["status", "priority", "id"], unique=False)
    op.create_index(
        "uq_jobs_lock_running", "jobs", ["lock"], unique=True, **_where("status = 'running' AND lock IS NOT NULL")
    )
    op.create_table(
        "outbox",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("sent_at", sa.Float()),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_table(
        "runs",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("pipeline", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), server_default="", nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("trusted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("definition_path", sa.Text(), nullable=False),
        sa.Column("definition_text", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("environments", sa.JSON(), nullable=False),
        sa.Column("concurrency_group", sa.Text()),
        sa.Column("cancel_superseded", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("holds_slot", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("scope", sa.String(length=128), server_default="", nullable=False),
        sa.Column("retry_of", _Id),
        sa.Column("cancel_requested_at", sa.Float()),
        sa.Column("cancel_by", sa.Text()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.ForeignKeyConstraint(["retry_of"], ["runs.id"], name="fk_runs_retry_of_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_pipeline_id", "runs", ["pipeline", "id"], unique=False)
    op.create_index("ix_runs_status", "runs", ["status"], unique=False)
    op.create_index("uq_runs_concurrency_slot", "runs", ["concurrency_group"], unique=True, **_where("holds_slot"))
    op.create_table(
        "secrets",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        sa.UniqueConstraint("scope", "name", "version", name="uq_secrets_scope"),
    )
    op.create_table(
        "stages",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("run_id", _Id, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("matrix", sa.JSON(), nullable=False),
        sa.Column("needs", sa.JSON(), nullable=False),
        sa.Column("line", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("cause", sa.String(length=16), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("allow_failure", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("image", sa.JSON()),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("cancel_requested_at", sa.Float()),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_stages_run_id_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_stages"),
        sa.UniqueConstraint("run_id", "name", name="uq_stages_run_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "artifacts",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("stage_id", _Id, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_artifacts_stage_id_stages", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.UniqueConstraint("stage_id", "attempt", "path", name="uq_artifacts_stage_id"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("stage_id", _Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("cause", sa.String(length=16), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("worker", sa.Text(), server_default="", nullable=False),
        sa.Column("container", sa.Text(), server_default="", nullable=False),
        sa.Column("commands", sa.JSON(), nullable=False),
        sa.Column("lines", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_attempts_stage_id_stages", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("stage_id", "number", name="uq_attempts_stage_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "builds",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("stage_id", _Id, nullable=False),
        sa.Column("pipeline", sa.String(length=63), nullable=False),
        sa.Column("base", sa.String(length=63), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("image_id", sa.String(length=80), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("used_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_builds_stage_id_stages", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_builds"),
    )
    op.create_index("ix_builds_lookup", "builds", ["pipeline", "base", "branch", "id"], unique=False)
    op.create_table(
        "cases",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("stage_id", _Id, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.String(length=63), nullable=False),
        sa.Column("case_key", sa.String(length=40), nullable=False),
        sa.Column("test", sa.Text(), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("classname", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("seconds", sa.Float()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_cases_stage_id_stages", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
    )
    op.create_index("ix_cases_pipeline_key", "cases", ["pipeline", "case_key", "id"], unique=False)
    op.create_index("ix_cases_stage_status", "cases", ["stage_id", "attempt", "status"], unique=False)
    op.create_table(
        "promotions",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("environment_id", _Id, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), server_default="", nullable=False),
        sa.Column("run_id", _Id),
        sa.Column("stage_id", _Id),
        sa.Column("rollback_of", _Id),
        sa.Column("release", sa.JSON(), nullable=False),
        sa.Column("colour", sa.String(length=5)),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("binding", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("ready_by", sa.Float()),
        sa.Column("switched_at", sa.Float()),
        sa.Column("bake_until", sa.Float()),
        sa.Column("drain_until", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name="fk_promotions_environment_id_environments"
        ),
        sa.ForeignKeyConstraint(["rollback_of"], ["promotions.id"], name="fk_promotions_rollback_of_promotions"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_promotions_run_id_runs"),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_promotions_stage_id_stages"),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_promotions_environment", "promotions", ["environment_id", "id"], unique=False)
    op.create_index(
        "uq_promotions_deploying", "promotions", ["environment_id"], unique=True, **_where("status = 'deploying'")
    )
    op.create_index("uq_promotions_stage", "promotions", ["stage_id"], unique=True, **_where("stage_id IS NOT NULL"))
    op.create_table(
        "reports",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("stage_id", _Id, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["stage_id"], ["stages.id"], name="fk_reports_stage_id_stages", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.UniqueConstraint("stage_id", "attempt", "path", name="uq_reports_stage_id"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("promotion_id", _Id, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("binding", sa.String(length=64), nullable=False),
        sa.Column("via", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotions.id"], name="fk_decisions_promotion_id_promotions"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.UniqueConstraint("promotion_id", "person", name="uq_decisions_promotion_id"),
    )
    op.create_table(
        "promotion_steps",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("promotion_id", _Id, nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("intent", sa.JSON(), nullable=False),
        sa.Column("observed", sa.JSON()),
        sa.Column("intent_at", sa.Float(), nullable=False),
        sa.Column("done_at", sa.Float()),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotions.id"], name="fk_promotion_steps_promotion_id_promotions"),
        sa.PrimaryKeyConstraint("id", name="pk_promotion_steps"),
    )
    op.create_index("ix_promotion_steps_promotion", "promotion_steps", ["promotion_id", "id"], unique=False)
