"""Tell why a stage would run for an event, or why not: trigger, `when`, needs, promotion, each with its line.

What only a run can know (whether a need succeeds, whether a person approves) is told as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import triggers
from pipeline.definition import Stage
from pipeline.errors import NotFound
from pipeline.mistakes import closest
from pipeline.model import Event
from pipeline.plan import PlannedStage, judge, plan
from pipeline.positions import Path

if TYPE_CHECKING:
    from pipeline.loading import Loaded
    from pipeline.policy import Environments


@dataclass(frozen=True, slots=True)
class Reason:
    """One filter and what it says: True lets the stage through, False stops it, None is known only in the run."""

    holds: bool | None
    text: str
    where: str  # file:line


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a stage would run, in a sentence, and every filter on the way to it."""

    stage: str
    runs: bool
    verdict: str
    reasons: tuple[Reason, ...]

    def as_data(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        reasons = [{"holds": r.holds, "text": r.text, "where": r.where} for r in self.reasons]
        return {"stage": self.stage, "runs": self.runs, "verdict": self.verdict, "reasons": reasons}


def explain(
    loaded: Loaded, event: Event, stage: str, *, environments: Environments | Mapping[str, Any] | None = None
) -> Explanation:
    """Explain one stage, or one combination of its matrix. Raises NotFound for a name that there is not."""
    made = plan(loaded, event, environments=environments)
    chosen = next((one for one in made.stages if stage in (one.name, one.base)), None)
    if chosen is None:
        meant = closest(stage, [one.base for one in made.stages])
        raise NotFound(f"{loaded.path}: there is no stage `{stage}`", hint=f"did you mean `{meant}`?" if meant else "")
    reasons = [
        _trigger(loaded, made.event),
        *_when(loaded, chosen, made.event),
        *_needs(loaded, chosen, made.stages),
        *_promotion(loaded, chosen, made.environments, made.event),
    ]
    stopped = [reason for reason in reasons if reason.holds is False]
    if stopped:
        verdict = f"`{chosen.name}` would not run: {stopped[0].text}"
    else:
        verdict = f"`{chosen.name}` would run"
        if later := [reason.text for reason in reasons if reason.holds is None]:
            verdict += ", " + "; ".join(later[:3])
    return Explanation(chosen.name, not stopped, verdict, tuple(reasons))


def _where(loaded: Loaded, path: Path, *, key: bool = False) -> str:
    place = loaded.positions.at(path, key=key)
    return f"{place.file}:{place.line}"


def _trigger(loaded: Loaded, event: Event) -> Reason:
    holds, text = triggers.match(loaded.definition, event)
    path: Path = ("on", event.kind) if event.kind in loaded.definition.on.model_fields_set else ("on",)
    return Reason(holds, text, _where(loaded, path, key=True))


def _when(loaded: Loaded, chosen: PlannedStage, event: Event) -> Iterator[Reason]:
    stage: Stage = loaded.definition.stages[chosen.base]
    path: Path = ("stages", chosen.base, "when")
    judged = judge(stage, event, chosen.matrix)
    if not stage.when:
        yield Reason(True, "it has no `when`", _where(loaded, ("stages", chosen.base), key=True))
        return
    for index, why in enumerate(judged.why):
        where = _where(loaded, (*path, index))
        item = stage.when[index]
        if why:
            # One item that holds is enough: then the others stop nothing.
            yield Reason(None if judged.kept else False, f"item {index + 1} of `when` does not hold: {why}", where)
        elif item.status:
            told = {"succeeded": "succeed", "failed": "fail", "always": "end in any way"}
            wanted = " or ".join(told[status] for status in item.status)
            yield Reason(None, f"if the stages that it needs {wanted}", where)
        else:
            yield Reason(True, f"item {index + 1} of `when` holds", where)


def _needs(loaded: Loaded, chosen: PlannedStage, stages: Sequence[PlannedStage]) -> Iterator[Reason]:
    by_name = {stage.name: stage for stage in stages}
    where = _where(loaded, ("stages", chosen.base, "needs"), key=True)
    for need in chosen.needs:
        other = by_name[need["stage"]]
        why = _left_out(other, by_name)
        if why and need["optional"]:
            yield Reason(True, f"it needs `{other.name}` only if that runs, and it is left out: {why}", where)
        elif why:
            yield Reason(False, f"it needs `{other.name}`, which is left out: {why}", where)
        else:
            words = "has ended well or was skipped" if need["optional"] else "has succeeded"
            yield Reason(None, f"after `{other.name}` {words}", where)


def _left_out(stage: PlannedStage, by_name: Mapping[str, PlannedStage]) -> str:
    """Return why a stage is certain not to run, by its own `when` or by that of a stage it needs."""
    seen = set()
    todo = [stage]
    while todo:
        one = todo.pop()
        if one.skip_reason:
            return one.skip_reason if one is stage else f"`{one.name}` is left out: {one.skip_reason}"
        for need in one.needs:
            if not need["optional"] and need["stage"] not in seen:
                seen.add(need["stage"])
                todo.append(by_name[need["stage"]])
    return ""


def _promotion(loaded: Loaded, chosen: PlannedStage, environments: Mapping[str, Any], event: Event) -> Iterator[Reason]:
    promote = chosen.spec.get("promote")
    if not promote:
        return
    where = _where(loaded, ("stages", chosen.base, "promote"), key=True)
    environment = environments.get(promote["environment"])
    if promote.get("from"):
        yield Reason(None, f"with the digest that this run put live in `{promote['from']}`", where)
    if environment is None:
        return
    requires = environment.get("requires") or {}
    branches = requires.get("branches") or []
    if branches:
        holds = triggers.globbed(event.branch, branches)
        text = f"`{promote['environment']}` takes branches {', '.join(branches)}; this is {event.branch or 'none'}"
        yield Reason(holds, text, "environments.yml")
    if requires.get("verify") and not _verified(loaded, promote, requires):
        yield Reason(False, f"`{promote['environment']}` requires a `verify`, and there is none", "environments.yml")
    if environment.get("approval") is not None:
        yield Reason(None, "once it is approved", "environments.yml")
    if environment.get("freeze"):
        yield Reason(None, "outside of the freezes", "environments.yml")


def _verified(loaded: Loaded, promote: Mapping[str, Any], requires: Mapping[str, Any]) -> bool:
    """Tell whether the images are verified on their way: here, or where they must have been live before."""
    places = {promote.get("from"), requires.get("from")} - {None}
    others = [stage.promote for stage in loaded.definition.stages.values() if stage.promote]
    return bool(promote.get("verify")) or any(one.environment in places and one.verify for one in others)
