"""When a stage may start: needs, skipped needs, and `when: status`. Pure, decided from the stages' statuses.

A stage that was skipped by its own `when` is transparent: who needs it (optionally) waits for what it
would have waited for, so leaving a stage out never lets a later one run early, or after a failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from graphlib import TopologicalSorter
from typing import Any

from pipeline.model import StageRun, Status


class Skip(StrEnum):
    """Why a stage never ran; stored as its `cause`."""

    PLAN = "plan"  # its `when` did not hold for the event
    STATUS = "status"  # its `when: status` did not come about
    NEED = "need"  # a stage that it needs was skipped
    FAILED = "failed"  # a stage that it needs failed
    CANCELLED = "cancelled"  # a stage that it needs was cancelled


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a stage now: it waits, it starts, or it is skipped for a reason."""

    start: bool = False
    skip: Skip | None = None
    reason: str = ""


WAIT = Verdict()
START = Verdict(start=True)


@dataclass(frozen=True, slots=True)
class _Met:
    """What a need has come to: pending, ok, skipped, failed or cancelled, and who is behind it."""

    what: str
    who: str = ""
    why: str = ""


def decide(stages: Sequence[StageRun]) -> dict[int, Verdict]:
    """Say what becomes of each queued stage of a run, by id; what is skipped now is taken into account at once."""
    by_name = {stage.name: stage for stage in stages}
    order = TopologicalSorter({stage.name: [str(need["stage"]) for need in stage.needs] for stage in stages})
    met: dict[str, _Met] = {}
    verdicts: dict[int, Verdict] = {}
    for name in order.static_order():
        stage = by_name[name]
        if stage.status == Status.QUEUED:
            verdict = verdicts[stage.id] = _judge(stage, met)
            if verdict.skip:
                stage = replace(stage, status=Status.SKIPPED, cause=verdict.skip, reason=verdict.reason)
        met[name] = _met(stage, met)
    return verdicts


def _judge(stage: StageRun, met: Mapping[str, _Met]) -> Verdict:
    wants = wanted(stage.spec)
    found = [(need, met[str(need["stage"])]) for need in stage.needs]
    unmet = [come for need, come in found if come.what in ("failed", "cancelled")]
    unmet += [come for need, come in found if come.what == "skipped" and not need.get("optional")]
    if wants == {"succeeded"} and unmet:
        return _skipped(unmet[0])
    if any(come.what == "pending" for _, come in found):
        return WAIT
    failed = any(come.what == "failed" for _, come in found)
    if "always" in wants or ("failed" in wants and failed) or ("succeeded" in wants and not unmet):
        return START
    if unmet and "succeeded" in wants:
        return _skipped(unmet[0])
    return Verdict(skip=Skip.STATUS, reason="it runs only when a stage that it needs has failed, and none has")


def wanted(spec: Mapping[str, Any]) -> set[str]:
    """Return the outcomes of its needs after which a stage runs. The plan has dropped what does not hold."""
    conditions = spec.get("when") or [{}]
    return {status for item in conditions for status in _listed(item.get("status") or "succeeded")}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _met(stage: StageRun, met: Mapping[str, _Met]) -> _Met:
    if not stage.status.final:
        return _Met("pending")
    if stage.status == Status.SUCCEEDED:
        return _Met("ok")
    if stage.status in (Status.FAILED, Status.ERRORED):
        words = "failed" if stage.status == Status.FAILED else "could not be done"
        return _Met("ok") if stage.allow_failure else _Met("failed", stage.name, words)
    if stage.status == Status.CANCELLED:
        return _Met("cancelled", stage.name, "was cancelled")
    why = f"was skipped: {stage.reason}"
    if stage.cause in (Skip.FAILED, Skip.CANCELLED, Skip.NEED):
        return _Met({"need": "skipped"}.get(stage.cause, stage.cause), stage.name, why)
    behind = [met[str(need["stage"])] for need in stage.needs]
    for what in ("failed", "cancelled", "pending"):
        for come in behind:
            if come.what == what:
                return come
    return _Met("skipped", stage.name, why)


def _skipped(come: _Met) -> Verdict:
    skip = {"failed": Skip.FAILED, "cancelled": Skip.CANCELLED}.get(come.what, Skip.NEED)
    return Verdict(skip=skip, reason=f"it needs {come.who}, which {come.why}")


def outcome(stages: Sequence[StageRun]) -> tuple[Status, str]:
    """Return how a run ended whose stages are all final, and the sentence that says why."""
    grave = [stage for stage in stages if not stage.allow_failure]
    for status, words in ((Status.FAILED, "failed"), (Status.ERRORED, "could not be done")):
        names = [stage.name for stage in grave if stage.status == status]
        if names:
            return status, f"{_enumerated(names)} {words}"
    cancelled = [stage.name for stage in stages if stage.status == Status.CANCELLED]
    if cancelled:
        return Status.CANCELLED, f"{_enumerated(cancelled)} cancelled"
    if all(stage.status == Status.SKIPPED for stage in stages):
        return Status.SKIPPED, stages[0].reason if len(stages) == 1 else "no stage had anything to do for this event"
    return Status.SUCCEEDED, ""


def _enumerated(names: list[str], most: int = 4) -> str:
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
