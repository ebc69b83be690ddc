"""A `promote` stage asks for a promotion and waits: carrying it out is a job of its own, which ends the stage.

So an approval may take days without holding a worker. Asked again after a crash, the stage gets the same
promotion back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import promotions, runs
from pipeline.errors import Conflict, DefinitionError, NotAllowed, StageFailed
from pipeline.model import Outcome, PromotionStatus, Status
from pipeline.policy import Environment
from runners import ground, releases, workspace
from runners.stages import Work


def execute(work: Work) -> Outcome:
    """Ask for this run's images to be put live. Returns a waiting outcome, or why the policy refuses."""
    asked = work.spec.promote
    assert asked is not None
    spec = _spec(work, asked.environment)
    release = releases.of_run(work.run, runs.stages(work.db, work.run.id), spec)
    releases.public_process(release, (spec.get("public") or {}).get("process"))
    policy = policy_of(spec)
    if asked.from_:
        policy["from"] = asked.from_
    if asked.verify:
        policy["verify"] = {
            "image": asked.verify.image,
            "run": list(asked.verify.run),
            "timeout": asked.verify.timeout,
        }
        place = workspace.prepare(work)
        policy |= {"env": {**work.env, **place.env}, "workspace": str(place.path), "prefix": place.prefix}
    standing = ground.ensure(work.db, work.settings, release.application, asked.environment, spec)
    try:
        made = promotions.request(
            work.db,
            standing,
            work.run,
            release=releases.to_data(release),
            policy=policy,
            by=work.run.event.by or work.settings.user,
            stage_id=work.stage.id,
            scope=work.run.scope,
        )
    except (NotAllowed, Conflict) as error:
        raise StageFailed(error.message, hint=error.hint) from error
    if made.status is PromotionStatus.REQUESTED:
        work.log.say(f"waits for a decision: {promotions.needed(work.db, made)}")
    return Outcome(status=Status.WAITING, result={"promotion": made.id, "environment": asked.environment})


def policy_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an environment asks for, as it is recorded with each promotion."""
    kept = ("strategy", "approval", "requires", "freeze")
    return {key: spec[key] for key in kept if spec.get(key)}


def _spec(work: Work, name: str) -> dict[str, Any]:
    known: Any = work.run.environments
    if name not in known:
        raise DefinitionError(
            f"there is no environment `{name}` for {work.run.pipeline}",
            hint=f"known are: {', '.join(sorted(known)) or 'none'}; environments.yml names them",
        )
    return Environment.model_validate(known[name]).model_dump(mode="json", by_alias=True)
