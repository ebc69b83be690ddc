"""Expand a definition for one event: which stages there are, what each needs, and which are left out and why.

Pure. Matrices become one stage per combination, needs fan out and in, `when` is decided as far as the event
decides it: of its items only those that hold stay, with their `status` for the run to decide. `${{ }}` in
stages is filled later, just before each starts (`expressions.fill`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline import expressions, inputs, matrix, triggers
from pipeline.checks.flow import MAX_STAGES
from pipeline.definition import Condition, Stage, as_data
from pipeline.errors import DefinitionError
from pipeline.mistakes import WrongDefinition
from pipeline.model import Event

if TYPE_CHECKING:
    from pipeline.loading import Loaded
    from pipeline.policy import Environments


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage, or one combination of its matrix, as it will run. `skip_reason` is a sentence, or empty."""

    position: int
    name: str  # `unit [shard=1]`
    base: str  # `unit`
    kind: str
    spec: Mapping[str, Any]  # definition.Stage as data; of `when` only the items that hold
    matrix: Mapping[str, str]
    needs: tuple[Mapping[str, Any], ...]  # {"stage": name of a planned stage, "optional": bool}
    line: int
    skip_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A definition expanded for one event, all as plain data."""

    definition: Mapping[str, Any]
    stages: tuple[PlannedStage, ...]
    event: Event
    environments: Mapping[str, Any]  # name -> policy.Environment as data
    path: str
    text: str
    concurrency: Mapping[str, Any] | None  # group filled in, cancel_superseded
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a stage's `when`: the items that hold, and the sentence when none does."""

    kept: tuple[int, ...] = ()
    reason: str = ""
    why: tuple[str, ...] = field(default=())  # per item: empty, or why it does not hold


def plan(loaded: Loaded, event: Event, *, environments: Environments | Mapping[str, Any] | None = None) -> Plan:
    """Expand a definition for an event. Raises DefinitionError for wrong inputs and unknown environments."""
    definition = loaded.definition
    values = _inputs(loaded, event)
    event = _with_inputs(event, values)
    known = start_context(event)
    data = as_data(definition)
    places = _environments(loaded, environments)
    if definition.env:
        data["env"] = {key: expressions.fill_text(value, known) for key, value in definition.env.items()}
    combos: dict[str, list[dict[str, str]]]
    combos = {name: matrix.combinations(stage.matrix) if stage.matrix else [{}] for name, stage in _stages(loaded)}
    if sum(map(len, combos.values())) > MAX_STAGES:
        total = sum(map(len, combos.values()))
        raise DefinitionError(f"{loaded.path}: the run would have {total} stages, {MAX_STAGES} are allowed")
    planned: list[PlannedStage] = []
    for base, stage in _stages(loaded):
        spec = data["stages"][base]
        for combination in combos[base]:
            judged = judge(stage, event, combination)
            planned.append(
                PlannedStage(
                    position=len(planned),
                    name=matrix.named(base, combination),
                    base=base,
                    kind=stage.kind,
                    spec=_spec(spec, judged),
                    matrix=combination,
                    needs=_needs(stage, combination, combos),
                    line=loaded.line(base),
                    skip_reason=judged.reason,
                )
            )
    return Plan(
        definition=data,
        stages=tuple(planned),
        event=event,
        environments=places,
        path=loaded.path,
        text=loaded.text,
        concurrency=_concurrency(loaded, known),
        warnings=_warnings(loaded, planned, event),
    )


def _stages(loaded: Loaded) -> list[tuple[str, Stage]]:
    return list(loaded.definition.stages.items())


def start_context(event: Event) -> dict[str, Any]:
    """Return what `${{ }}` may name before any stage has run."""
    return {"git": _git(event), "inputs": dict(event.inputs)}


def _git(event: Event) -> dict[str, str]:
    return {name: str(getattr(event, name)) for name in expressions.GIT}


def _inputs(loaded: Loaded, event: Event) -> dict[str, Any]:
    manual = loaded.definition.on.manual
    asked = manual.inputs if manual else {}
    values, flaws = inputs.settle(asked, event.inputs)
    if flaws:
        told = "\n".join(f"{message}" + (f": {hint}" if hint else "") for _, message, hint in flaws)
        raise DefinitionError(told, hint="inputs are declared under `on: manual: inputs:`, and given as NAME=VALUE")
    return values


def _with_inputs(event: Event, values: Mapping[str, Any]) -> Event:
    return replace(event, inputs=values) if values else event


def _environments(loaded: Loaded, environments: Environments | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the application's environments as data. Raises WrongDefinition for a promotion to none of them."""
    if environments is None:
        return {}
    from pipeline.checks.environments import unknown_environments
    from pipeline.policy import Application

    if isinstance(environments, Mapping):
        application = Application.model_validate({"environments": dict(environments)})
    else:
        application = environments.applications.get(loaded.definition.name) or Application()
    if wrong := unknown_environments(loaded.definition, loaded.positions, application):
        raise WrongDefinition(wrong, dict(loaded.files))
    return {name: as_data(one) for name, one in application.environments.items()}


def _spec(spec: Mapping[str, Any], judged: Judged) -> Mapping[str, Any]:
    items = spec.get("when")
    if not items or judged.reason:
        return spec
    return {**spec, "when": [items[index] for index in judged.kept]}


def judge(stage: Stage, event: Event, combination: Mapping[str, str]) -> Judged:
    """Decide a stage's `when` for an event, as far as it can be decided before the run."""
    if not stage.when:
        return Judged()
    why = tuple(_item(item, event, combination) for item in stage.when)
    kept = tuple(index for index, reason in enumerate(why) if not reason)
    if kept:
        return Judged(kept, "", why)
    if len(why) == 1:
        return Judged((), f"its `when` does not hold: {why[0]}", why)
    return Judged((), "no item of its `when` holds: " + "; ".join(dict.fromkeys(why)), why)


def _item(item: Condition, event: Event, combination: Mapping[str, str]) -> str:
    """Return why one item of `when` does not hold, or an empty string."""
    if item.event is not None and event.kind not in item.event:
        return f"the event is {event.kind}, not {_either(item.event)}"
    if item.branch is not None and not (event.branch and triggers.globbed(event.branch, item.branch)):
        return f"the branch is {event.branch or 'none'}, not {_either(item.branch)}"
    if item.tag is not None and not (event.tag and triggers.globbed(event.tag, item.tag)):
        return f"the tag is {event.tag or 'none'}, not {_either(item.tag)}"
    changed = event.paths
    if item.path is not None and changed is not None and not any(triggers.globbed(p, item.path) for p in changed):
        return f"no changed file matches {_either(item.path)}"
    if item.if_ is not None:
        variables = {
            "event": event.kind,
            "branch": event.branch,
            "tag": event.tag,
            "paths": list(changed or ()),
            "inputs": dict(event.inputs),
            "matrix": dict(combination),
            "git": _git(event),
        }
        if not expressions.evaluate(item.if_, variables):
            return f"`{item.if_.strip()}` is false"
    return ""


def _either(values: list[Any]) -> str:
    shown = [str(value) for value in values]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _needs(
    stage: Stage, combination: Mapping[str, str], combos: Mapping[str, list[dict[str, str]]]
) -> tuple[Mapping[str, Any], ...]:
    """Return a stage's needs by planned names: all combinations of a stage that has a matrix."""
    return tuple(
        {"stage": matrix.named(need.stage, other), "optional": need.optional}
        for need in stage.needs or ()
        for other in combos[need.stage]
    )


def _concurrency(loaded: Loaded, known: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = loaded.definition.concurrency
    if wanted is None:
        return None
    return {"group": expressions.fill_text(wanted.group, known), "cancel_superseded": wanted.cancel_superseded}


def _warnings(loaded: Loaded, planned: list[PlannedStage], event: Event) -> tuple[str, ...]:
    """Name what will be dropped: tags that are empty, combinations that an `exclude` removes."""
    told = []
    known = start_context(event)
    for stage in planned:
        for tag in (stage.spec.get("push") or {}).get("tags", ()) if not stage.skip_reason else ():
            here = all(reference.path[:1] in (("git",), ("inputs",)) for reference in expressions.references(tag))
            if here and not expressions.fill_text(tag, known):
                told.append(f"{stage.name}: the tag {tag or '``'} is empty for this event and is dropped")
    for base, one in _stages(loaded):
        if one.matrix and one.matrix.exclude:
            whole = matrix.size(one.matrix) - len(one.matrix.include)
            left = len(matrix.combinations(one.matrix.model_copy(update={"include": []})))
            told.append(f"{base}: `exclude` removes {whole - left} of {whole} combinations")
    return tuple(told)
