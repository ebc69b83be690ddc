"""What must be true before a promotion may go on: requirements, approvals, freezes, and what an approval is bound to.

Pure: values in, a verdict out. Who is asked and what is stored is `promotions`; the models are `policy`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pipeline import cron
from pipeline.model import Run, StageRun, Status
from pipeline.vocabulary import seconds


def binding(*, environment: str, release: Mapping[str, Any], live: int | None, policy: Mapping[str, Any]) -> str:
    """Return the hash of all that an approval authorises: any change of it voids the approval."""
    bound = {
        "environment": environment,
        "images": release["images"],
        "config": release["config_hash"],
        "live": live,
        "policy": {key: policy.get(key) for key in ("approval", "requires", "strategy", "freeze")},
    }
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


def unmet(
    requires: Mapping[str, Any], run: Run, stages: Iterable[StageRun], *, verified: bool, passed: Mapping[str, bool]
) -> list[str]:
    """Return which requirements do not hold, for a person. `passed` tells of each environment that must come first."""
    wrong = []
    branches = requires.get("branches") or []
    if branches and not any(fnmatchcase(run.event.branch, pattern) for pattern in branches):
        wrong.append(
            f"only runs of {', '.join(branches)} may come here, this one is of {run.event.branch or 'no branch'}"
        )
    green = {stage.base: stage for stage in stages}
    failed = {stage.base for stage in green.values() if stage.status is not Status.SUCCEEDED}
    for name in requires.get("stages") or []:
        if name not in green or name in failed:
            wrong.append(f"the stage `{name}` must have succeeded in run {run.id}")
    if requires.get("verify") and not verified:
        wrong.append("the promotion must have a `verify`")
    for name, did in passed.items():
        if not did:
            wrong.append(f"run {run.id} must have put exactly these images live in `{name}`, with its bake ended")
    return wrong


def approved(
    approval: Mapping[str, Any] | None, people: Sequence[str], has_role: Callable[[str, str], bool]
) -> tuple[bool, str]:
    """Tell whether these people are enough, and what is still needed. Each person fills one place of one rule only."""
    if not approval:
        return True, ""
    rules = approval.get("rules") or [{"role": "release-manager", "count": 1}]
    places = [str(rule["role"]) for rule in rules for _ in range(int(rule.get("count", 1)))]
    seats: dict[int, str] = {}

    def seat(person: str, tried: set[int]) -> bool:
        for place, role in enumerate(places):
            if place in tried or not has_role(person, role):
                continue
            tried.add(place)
            if place not in seats or seat(seats[place], tried):
                seats[place] = person
                return True
        return False

    for person in dict.fromkeys(people):
        seat(person, set())
    left = [role for place, role in enumerate(places) if place not in seats]
    counted = {role: left.count(role) for role in dict.fromkeys(left)}
    return not left, ", ".join(f"{count} of {role}" for role, count in counted.items())


def frozen(freezes: Iterable[Mapping[str, Any]], now: float) -> tuple[float, str] | None:
    """Return until when (epoch seconds) and why nothing is promoted now, or None. Raises DefinitionError."""
    found = [(end, str(freeze.get("reason") or "freeze")) for freeze in freezes if (end := _window(freeze, now))]
    return max(found) if found else None


def _window(freeze: Mapping[str, Any], now: float) -> float | None:
    """Return the end of the window that `now` is in, or None."""
    length = float(seconds(freeze["duration"]))
    begin = cron.last(str(freeze["cron"]), timezone=str(freeze.get("timezone") or "UTC"), now=now, within=length)
    return None if begin is None else begin + length
