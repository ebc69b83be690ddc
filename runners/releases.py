"""From a run and an environment to what is put live: images by digest, processes, and the hash of all the rest.

The unit of a rollback is everything that the switch depends on, so the release is frozen here, once. Pure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.definition import App, Process
from pipeline.errors import StageFailed
from pipeline.model import Run, StageRun, Status
from runners.targets import Release


def of_run(run: Run, stages: Iterable[StageRun], spec: Mapping[str, Any]) -> Release:
    """Return what `run` would put live in an environment of this `spec`. Raises StageFailed when it can not."""
    data: Any = run.definition.get("app")
    if not data:
        raise StageFailed("the definition has no `app`", hint="say under `app.processes` how the application runs")
    app = App.model_validate(data)
    by_name = {stage.base: stage for stage in stages}
    over: Mapping[str, str] = spec.get("env") or {}
    replicas: Mapping[str, int] = spec.get("replicas") or {}
    processes = {}
    for name, process in app.processes.items():
        if process.port and process.swap == "stop_then_start":
            raise StageFailed(
                f"the process `{name}` has a port and `swap: stop_then_start`",
                hint="a process with a port is swapped blue-green: two of it run for a while",
            )
        one = process.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        processes[name] = {**one, "replicas": replicas.get(name, process.replicas), "env": {**process.env, **over}}
    frozen = Release(
        application=run.pipeline,
        images={name: _image(process.image, by_name) for name, process in app.processes.items()},
        processes=processes,
        accessories={
            name: one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for name, one in app.accessories.items()
        },
        before=app.before.model_dump(mode="json", exclude_defaults=True) | {"run": app.before.run}
        if app.before
        else None,
        env={**app.env, **over},
        secrets=tuple(spec.get("secrets") or ()),
        run=run.id,
        commit=run.event.sha,
    )
    return dataclasses.replace(frozen, config_hash=_hash(frozen))


def _image(named: str, stages: Mapping[str, StageRun]) -> str:
    """Return what a process runs: the image of the stage that it names, else the author's own reference."""
    stage = stages.get(named)
    if stage is None and named == "push":  # the default, where nothing is pushed: the only image that was built
        built = [s for s in stages.values() if s.kind == "build" and s.image is not None]
        if len(built) != 1:
            raise StageFailed(
                "`image: push` needs a stage `push`, or exactly one `build` stage",
                hint="name the stage that makes the image: `image: runtime_image`",
            )
        stage = built[0]
    if stage is None:
        return named
    if stage.image is None or stage.status is not Status.SUCCEEDED:
        raise StageFailed(
            f"the stage `{named}` made no image in this run ({stage.status})",
            hint="let the promotion need it: `needs: [push]`",
        )
    return stage.image.reference


def public_process(release: Release, wanted: str | None) -> str | None:
    """Return the process that requests go to: the one named, else the only one with a port."""
    ported = [name for name, data in release.processes.items() if Process.model_validate(data).port]
    if wanted:
        if wanted not in ported:
            raise StageFailed(
                f"`public.process` names `{wanted}`, which has no port",
                hint="give it a `port` in `app.processes`, or name another one in environments.yml",
            )
        return wanted
    if len(ported) > 1:
        raise StageFailed(
            f"{', '.join(ported)} all have a port",
            hint="say in environments.yml which of them is public: `public: {process: …}`",
        )
    return ported[0] if ported else None


def secret_names(release: Release) -> list[str]:
    """Return every secret that something of this release uses."""
    own = [
        use
        for data in (*release.processes.values(), *release.accessories.values())
        for use in data.get("secrets") or ()
    ]
    names = [use if isinstance(use, str) else str(use["name"]) for use in own]
    return list(dict.fromkeys([*release.secrets, *names]))


def to_data(release: Release) -> dict[str, Any]:
    """Return a release as plain data."""
    return {**dataclasses.asdict(release), "secrets": list(release.secrets)}


def from_data(data: Mapping[str, Any]) -> Release:
    """Read a release again."""
    return Release(**{**data, "secrets": tuple(data.get("secrets") or ())})


def _hash(release: Release) -> str:
    data = to_data(release)
    bound = {key: data[key] for key in ("processes", "accessories", "before", "env", "secrets")}
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()[:16]
