"""Check the operator's `environments.yml` beyond its models: one target, one door, windows that can open."""

from __future__ import annotations

from pipeline.definition import Definition
from pipeline.mistakes import Mistake, closest
from pipeline.policy import Application, Environment, Environments
from pipeline.positions import Path, Positions
from pipeline.triggers import cron_flaw, timezone_flaw

_TARGETS = ("docker", "compose", "swarm", "kubernetes", "dummy")


def environment_mistakes(environments: Environments, positions: Positions) -> list[Mistake]:
    """Return everything that is wrong between the parts of the operator's file."""
    found: list[Mistake] = []
    doors: dict[tuple[str, object], str] = {}
    for app, application in environments.applications.items():
        for name, environment in application.environments.items():
            path = ("applications", app, "environments", name)
            found += _one(path, environment, application, positions)
            for kind in ("port", "host"):
                door = (kind, getattr(environment.public, kind))
                if door[1] is not None and door in doors:
                    message = f"{kind} {door[1]} is already that of {doors[door]}"
                    found.append(positions.mistake((*path, "public", kind), message))
                doors[door] = f"{app}.{name}"
    return found


def _one(path: Path, environment: Environment, application: Application, positions: Positions) -> list[Mistake]:
    found = []
    targets = [kind for kind in _TARGETS if getattr(environment.target, kind) is not None]
    if len(targets) != 1:
        message = f"`target` has exactly one of {', '.join(_TARGETS[:-1])}"
        found.append(positions.mistake((*path, "target"), message, key=True))
    if environment.public.port is not None and environment.public.host is not None:
        message = "`public` has a port or a host, not both"
        found.append(positions.mistake((*path, "public"), message, "a host is reached on the shared port", key=True))
    wanted = environment.requires.from_ if environment.requires else None
    if wanted is not None and (wanted not in application.environments or wanted == path[-1]):
        meant = closest(wanted, application.environments)
        hint = f"did you mean `{meant}`?" if meant else ""
        found.append(positions.mistake((*path, "requires", "from"), f"there is no other environment `{wanted}`", hint))
    for index, freeze in enumerate(environment.freeze):
        for key, flaw in (("cron", cron_flaw(freeze.cron)), ("timezone", timezone_flaw(freeze.timezone))):
            if flaw:
                found.append(positions.mistake((*path, "freeze", index, key), flaw))
    if environment.approval and not environment.approval.rules:
        message = "`rules` is empty, so anybody's silence would do"
        found.append(positions.mistake((*path, "approval", "rules"), message, "leave `approval` out", key=True))
    return found


def unknown_environments(definition: Definition, positions: Positions, application: Application) -> list[Mistake]:
    """Return a mistake for each promotion to an environment that the application does not have."""
    known = list(application.environments)
    found = []
    for name, stage in definition.stages.items():
        if stage.promote and stage.promote.environment not in known:
            meant = closest(stage.promote.environment, known)
            hint = f"did you mean `{meant}`?" if meant else f"there are: {', '.join(known) or 'none'}"
            path = ("stages", name, "promote", "environment")
            message = f"`{definition.name}` has no environment `{stage.promote.environment}`"
            found.append(positions.mistake(path, message, hint))
    return found
