"""One attempt at one stage: gather what its hands need, let the right kind do it, report the outcome.

What comes next (retry, the next stages, the run's end) is decided by `pipeline.runs` in the transaction
that records the outcome; containers, builds and pushes are `runners.stages`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline import expressions, logs, runs
from pipeline.definition import Stage
from pipeline.errors import PipeError, StageFailed, Unavailable
from pipeline.faults import point
from pipeline.masking import Masker
from pipeline.model import Attempt, Cause, Outcome, Run, StageRun, Status
from runners.cleanup import Later
from runners.stages import Work

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.queue import Lease
    from runners.hands import Hands

DEFAULT_TIMEOUT_SECONDS = 3600.0


def do(hands: Hands, lease: Lease, stop: threading.Event) -> None:
    """Do the stage that `lease` is about. Raises LeaseLost when it has become another worker's."""
    run, stage, attempt = runs.begin(lease, worker=hands.name)
    point("stage.begun")
    timed_out = threading.Event()
    removals = Later()
    secrets, missing = _secrets(hands, run, stage)
    with closing(logs.open_log(hands.settings, attempt.id, Masker(secrets.values()))) as log:
        try:
            if missing:
                raise missing
            work = _work(hands, lease, run, stage, attempt, stop, log, secrets, removals)
            with _deadline(hands, work, timed_out):
                outcome = _kind(stage)(work)
        except PipeError as error:
            outcome = _outcome_of(error)
        outcome = _judged(outcome, run, stage, stop, timed_out)
        if outcome.reason:
            log.say(outcome.reason)
    point("stage.done")
    runs.finish(lease, outcome, lines=log.lines)
    point("stage.recorded")
    hands.cleanup.all_later(removals)


def _kind(stage: StageRun) -> Callable[[Work], Outcome]:
    execute: Callable[[Work], Outcome] = import_module(f"runners.stages.{stage.kind}").execute
    return execute


def _secrets(hands: Hands, run: Run, stage: StageRun) -> tuple[Mapping[str, str], PipeError | None]:
    """Return the secrets of a stage, or what is missing, which is told in its log."""
    names = _secret_names(stage.spec)
    try:
        return (hands.secrets(run, names) if names else {}), None
    except PipeError as error:
        return {}, error


def _outcome_of(error: PipeError) -> Outcome:
    if isinstance(error, StageFailed):
        return Outcome(status=Status.FAILED, cause=error.cause, reason=str(error), exit_code=error.code)
    cause = error.cause if isinstance(error, Unavailable) else Cause.ERRORED
    return Outcome(status=Status.ERRORED, cause=cause, reason=str(error))


def _judged(outcome: Outcome, run: Run, stage: StageRun, stop: threading.Event, timed_out: threading.Event) -> Outcome:
    """Say what the clock or a person did, where the hands could only see that they were stopped."""
    if outcome.status in (Status.SUCCEEDED, Status.WAITING) or not stop.is_set():
        return outcome
    if timed_out.is_set():
        limit = _timeout_seconds(run.definition, stage.spec)
        reason = f"{stage.name} took longer than its timeout of {limit:g} s and was stopped"
        return Outcome(
            status=Status.FAILED,
            cause=Cause.TIMEOUT,
            reason=f"{reason}\n  raise `timeout`, or find what hangs: the log's last lines are above",
            commands=outcome.commands,
            result=outcome.result,
        )
    return Outcome(status=Status.CANCELLED, cause=Cause.CANCELLED, reason="cancelled", commands=outcome.commands)


def _secret_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the secrets of a stage: its commands', its build's, its services'."""
    names = [*spec.get("secrets", ()), *(spec.get("build") or {}).get("secrets", ())]
    for service in (spec.get("services") or {}).values():
        names += [use if isinstance(use, str) else use["name"] for use in service.get("secrets", ())]
    return list(dict.fromkeys(names))


def _work(
    hands: Hands,
    lease: Lease,
    run: Run,
    stage: StageRun,
    attempt: Attempt,
    stop: threading.Event,
    log: logs.LogWriter,
    secrets: Mapping[str, str],
    removals: Later,
) -> Work:
    spec = Stage.model_validate(expressions.fill(stage.spec, context(hands.db, run, stage)))
    source = hands.source(run)
    return Work(
        settings=hands.settings,
        db=hands.db,
        engine=hands.engine,
        lease=lease,
        run=run,
        stage=stage,
        attempt=attempt,
        spec=spec,
        log=log,
        secrets=secrets,
        source=source.top,
        project=source.project,
        workspaces=source.workspaces,
        env=environment(run, stage, attempt, spec),
        deadline=attempt.started_at + _timeout_seconds(run.definition, stage.spec),
        cancelled=stop,
        cleanup=removals,
        sandboxes=hands.sandboxes,
        resumed=attempt.worker != hands.name or lease.losses > 0,  # it may be this very worker that lost it
    )


def _timeout_seconds(definition: Mapping[str, Any], spec: Mapping[str, Any]) -> float:
    return float(spec.get("timeout") or (definition.get("defaults") or {}).get("timeout") or DEFAULT_TIMEOUT_SECONDS)


@contextmanager
def _deadline(hands: Hands, work: Work, timed_out: threading.Event) -> Iterator[None]:
    def end() -> None:
        timed_out.set()
        work.cancelled.set()

    timer = threading.Timer(max(0.0, work.deadline - hands.db.now()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def context(db: Database, run: Run, stage: StageRun) -> dict[str, Any]:
    """Return what `${{ }}` may name in this stage."""
    event = run.event
    return {
        "git": {
            "ref": event.ref,
            "sha": event.sha,
            "short_sha": event.short_sha,
            "branch": event.branch,
            "tag": event.tag,
            "message": event.message,
            "author": event.author,
        },
        "run": {"number": run.id, "event": event.kind},
        "inputs": dict(event.inputs),
        "matrix": dict(stage.matrix),
        "stages": {
            other.base: {
                "image": other.image.reference if other.image else "",
                "digest": other.image.digest if other.image else "",
                "outputs": dict(other.outputs),
            }
            for other in runs.stages(db, run.id)
            if other.status == Status.SUCCEEDED
        },
    }


def environment(run: Run, stage: StageRun, attempt: Attempt, spec: Stage) -> dict[str, str]:
    """Return what reaches the commands: what we know, then the definition's, the inputs, the matrix, the stage's."""
    event = run.event
    env = {
        "CI": "true",
        "PIPE": "true",
        "PIPE_RUN": str(run.id),
        "PIPE_PIPELINE": run.pipeline,
        "PIPE_STAGE": stage.name,
        "PIPE_ATTEMPT": str(attempt.number),
        "PIPE_EVENT": event.kind,
        "PIPE_COMMIT": event.sha,
        "PIPE_SHORT_SHA": event.short_sha,
        "PIPE_REF": event.ref,
        "PIPE_BRANCH": event.branch,
        "PIPE_TAG": event.tag,
    }
    definition_env: Mapping[str, str] = run.definition.get("env") or {}  # type: ignore[assignment]
    env.update(definition_env)
    env.update({_shell_name(name): _shell_value(value) for name, value in event.inputs.items()})
    env.update({_shell_name(name): _shell_value(value) for name, value in stage.matrix.items()})
    env.update(spec.env)
    return env


def _shell_name(name: str) -> str:
    return name.upper().replace("-", "_")


def _shell_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
