"""From what a person asked for to a plan: the definition, the event, the environments, the stages that were named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.places import Found, definition
from pipeline.errors import DefinitionError

if TYPE_CHECKING:
    from pipeline.cli.local import Wish
    from pipeline.definition import Definition
    from pipeline.loading import Loaded
    from pipeline.model import Event
    from pipeline.plan import Plan, PlannedStage
    from pipeline.policy import Environment, Environments
    from pipeline.settings import Settings

ENVIRONMENTS = Path("pipelines.d/environments.yml")


def planned(
    settings: Settings, wish: Wish, *, expect: Callable[[Definition, Event], None] = lambda read, event: None
) -> Plan:
    """Return the plan of what was asked for; `expect` is told the definition and the event as soon as they are known.

    Raises DefinitionError with everything that is wrong.
    """
    found, event, loaded = read(settings, wish)
    expect(loaded.definition, event)
    from pipeline.plan import plan

    made = plan(loaded, event, environments=environments(found, loaded.definition.name))
    stages: Sequence[PlannedStage] = made.stages
    if wish.stages:
        stages = chosen(stages, wish.stages)
    if wish.no_cache:
        stages = [_without_cache(stage) for stage in stages]
    return replace(made, stages=tuple(stages))


def read(settings: Settings, wish: Wish) -> tuple[Found, Event, Loaded]:
    """Return the definition that is meant, the event, and what the definition says. Raises DefinitionError."""
    from pipeline import loading
    from runners import repository

    found = definition(wish.file)
    folder = found.path.parent
    if wish.commit is None:
        event = repository.event(folder, wish.event, by=settings.user)
        loaded = loading.load(found.path, root=found.root, shown=found.shown)
    else:
        event = repository.event_at(folder, wish.commit, wish.event, by=settings.user)
        path = str(found.path.resolve().relative_to(found.root.resolve()))
        loaded = loading.loads(repository.text_at(folder, event.sha, path), found.shown)
    return found, replace(event, inputs=dict(wish.inputs)), loaded


def environments(found: Found, application: str) -> Environments | Mapping[str, Environment]:
    """Return the operator's file near the definition, if it knows the application; else the default environments."""
    from pipeline import environments as places
    from pipeline import loading

    for folder in dict.fromkeys((found.path.parent, found.root)):
        path = folder / ENVIRONMENTS
        if path.is_file():
            known = loading.load_environments(path, root=folder)
            if application in known.applications:
                return known
    return places.default()


def chosen(stages: Sequence[PlannedStage], names: Iterable[str]) -> list[PlannedStage]:
    """Return the stages of these names and all that they need, in order. Raises DefinitionError for an unknown name."""
    by_name = {stage.name: stage for stage in stages}
    wanted: list[str] = []
    for name in names:
        found = [stage.name for stage in stages if name in (stage.name, stage.base)]
        if not found:
            raise _unknown(name, stages)
        wanted += found
    kept: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept.add(name)
            wanted += [str(need["stage"]) for need in by_name[name].needs if str(need["stage"]) in by_name]
    return [stage for stage in stages if stage.name in kept]


def _unknown(name: str, stages: Sequence[PlannedStage]) -> DefinitionError:
    from difflib import get_close_matches

    known = list(dict.fromkeys(stage.base for stage in stages))
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
    return DefinitionError(f"there is no stage `{name}`", hint=hint)


def _without_cache(stage: PlannedStage) -> PlannedStage:
    if stage.kind != "build":
        return stage
    build: Mapping[str, Any] = stage.spec["build"]
    return replace(stage, spec={**stage.spec, "build": {**build, "cache": False}})
