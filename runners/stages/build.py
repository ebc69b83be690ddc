"""Build an image from the run's snapshot, and tell what the cache did. How the builder is called is `buildkit`'s.

Building again after a crash is a cache hit, so nothing needs to be looked up first. The image is known by
its id from here on; the branch's name in `images` only keeps its layers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import runs
from pipeline.errors import StageFailed
from pipeline.faults import point
from pipeline.model import Image, Outcome, Status
from runners import (
    build_context,
    build_failure,
    buildkit,
    cache_report,
    destinations,
    images,
    process,
    repository,
    workspace,
)
from runners.snapshots import Snapshot
from runners.stages import Work


def execute(work: Work) -> Outcome:
    """Build the stage's image.

    Raises:
        StageFailed: an instruction failed, or a file of the build is not there.
        Unavailable: builder, engine, base image or disk are not in order.
    """
    frozen = workspace.snapshot(work)
    build = planned(work, frozen)
    history = _History(work, build)
    id_file = frozen.path.parent.parent / f"image-{work.stage.position}-{work.attempt.number}"
    progress = buildkit.Progress(work.log.say, work.log.feed)
    point("build.started")
    done = process.run(
        buildkit.command(buildkit.program(), build, image_id_file=id_file),
        env=buildkit.environment(work.settings, build, work.settings.engine_url),
        on_line=progress.hear,
        cancelled=work.cancelled,
        dies_with_us=True,
    )
    progress.finish()
    point("build.built")
    if done.stopped:
        return Outcome(status=Status.CANCELLED, reason="the build was stopped")
    if not done.ok:
        _tell_failure(work, progress)
        raise build_failure.error_of(done, progress, str(work.spec.build.dockerfile if work.spec.build else ""))
    image = Image(id=id_file.read_text().strip())
    report = history.report(progress, image)
    point("build.recorded")
    for line in report.text():
        work.log.say(line)
    return Outcome(status=Status.SUCCEEDED, image=image, result={"cache": report.as_data()})


def planned(work: Work, frozen: Snapshot) -> buildkit.Build:
    """Return the build that the stage asks for. Raises StageFailed for files that are not in the workspace."""
    spec = work.spec.build
    assert spec is not None
    context = _inside(frozen, frozen.folder / spec.context, f"the context {spec.context}")
    dockerfile = _inside(frozen, context / spec.dockerfile, f"the Dockerfile {spec.dockerfile}")
    if not context.is_dir():
        raise StageFailed(f"the context {spec.context} is not a folder")
    if not dockerfile.is_file():
        raise StageFailed(
            f"there is no Dockerfile {spec.dockerfile} in {spec.context}",
            hint="`dockerfile` is taken relative to `context`; is it committed, or new and not ignored?",
        )
    installation, stage, line = work.db.installation, images.stage_key(work), images.line_of(work)
    name = images.name(installation, work.run.pipeline, stage)
    pushed_to = destinations.of_build(work)
    return buildkit.Build(
        context=context,
        dockerfile=dockerfile,
        tag=f"{name}:{images.tag_of(line)}",
        target=spec.target or "",
        args=spec.args,
        labels=images.labels(installation, work.run.pipeline, stage),
        secrets={name: work.secrets[name] for name in spec.secrets},
        ca_bundle=work.settings.ca_bundle,
        platforms=tuple(spec.platforms),
        cache_space=f"{installation[:8]}-{work.run.pipeline}-{'trusted' if work.run.trusted else 'untrusted'}",
        cache_from=_elsewhere(work, name, stage, line, pushed_to) if spec.cache else (),
        inline_cache=bool(pushed_to),
        cache=spec.cache,
    )


def _inside(frozen: Snapshot, path: Path, what: str) -> Path:
    """Return the path if it lies in the snapshot, also after its links are followed."""
    resolved, root = path.resolve(), frozen.path.resolve()
    if resolved != root and root not in resolved.parents:
        raise StageFailed(f"{what} leads out of the repository", hint="Paths are relative to the definition's folder.")
    return frozen.path / resolved.relative_to(root)


def _elsewhere(work: Work, name: str, stage: str, line: str, pushed_to: list[str]) -> tuple[str, ...]:
    """Return where in a registry layers may be found, when this host has built neither branch yet."""
    if not pushed_to or work.engine.image_id(f"{name}:{images.tag_of(line)}"):
        return ()
    lines = list(dict.fromkeys([line, repository.default_branch(work.source)]))
    if any(work.engine.image_id(f"{name}:{images.tag_of(other)}") for other in lines[1:] if other):
        return ()
    return tuple(f"{to}:{images.cache_tag(stage, other)}" for to in pushed_to for other in lines if other)


def _tell_failure(work: Work, progress: buildkit.Progress) -> None:
    for line in build_failure.excerpt(progress):
        work.log.say(line)
    if progress.last_output:
        work.log.say("last output of the instruction:")
        for line in progress.last_output[-10:]:
            work.log.say(f"  {line}")


class _History:
    """What went into this build and the one before, gathered while the builder works."""

    def __init__(self, work: Work, build: buildkit.Build) -> None:
        self._work, self._build = work, build
        self._before: Mapping[str, Any] | None = None
        self._files: build_context.Files | None = None
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._gather, name="build-history", daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        try:
            run, line = self._work.run, images.line_of(self._work)
            default = repository.default_branch(self._work.source)
            stage = images.stage_key(self._work)
            self._before = runs.previous_build(self._work.db, run.pipeline, stage, line, default)
            known = cache_report.inputs_from(self._before["files"]).files if self._before else None
            ignore = build_context.ignore_of(self._build.context, self._build.dockerfile)
            self._files = build_context.files(self._build.context, ignore, known or {})
        except Exception as error:  # told where it can be: in the thread of the stage
            self._trouble = error

    def report(self, progress: buildkit.Progress, image: Image) -> cache_report.Report:
        """Compare, remember what this build was for the next one, and return the report."""
        self._thread.join()
        if self._trouble:
            raise self._trouble
        steps = list(progress.steps.values())
        before = cache_report.inputs_from(self._before["files"]) if self._before else None
        recorded = self._before["steps"] if self._before else []
        now = cache_report.Inputs(
            files=self._files,
            args=cache_report.hashed(self._build.args),
            dockerfile=hashlib.sha256(self._build.dockerfile.read_bytes()).hexdigest()[:20],
            bases=self._bases(steps, before),
        )
        report = cache_report.report(steps, now, before, recorded)
        runs.record_build(
            self._work.lease,
            pipeline=self._work.run.pipeline,
            base=images.stage_key(self._work),
            branch=images.line_of(self._work),
            image_id=image.id,
            files=now.as_data(),
            steps=[line.as_data() for line in report.lines],
        )
        return report

    def _bases(self, steps: list[buildkit.Step], before: cache_report.Inputs | None) -> dict[str, str]:
        """Return the ids of the base images; asked for only when a layer had to be built."""
        names = cache_report.bases(steps)
        built = any(
            step.number and step.started and not step.cached and not cache_report.is_base(step) for step in steps
        )
        if before and not built and set(names) == set(before.bases):
            return dict(before.bases)
        return {name: self._work.engine.image_id(name) or "" for name in names}
