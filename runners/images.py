"""The images that builds leave here: how they are called. Keeping them within a budget is `image_budget`'s.

Names are `pipewright/<installation>/<pipeline>/<stage>:<branch>`: the last build of each branch
keeps its layers by that name. Labels are the same for every build of a stage, so that an unchanged build is
the same image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runners.stages import Work

INSTALLATION = "pipewright.installation"
PIPELINE = "pipewright.pipeline"
STAGE = "pipewright.build"
_WORD = re.compile(r"[^a-z0-9_.-]+")


def name(installation: str, pipeline: str, stage: str) -> str:
    """Return the name, without a tag, of the images that a stage builds."""
    return f"pipewright/{installation[:8]}/{_repository(pipeline)}/{_repository(stage)}"


def tag_of(branch: str) -> str:
    """Return a branch as a tag: readable, and never the same for two branches."""
    plain = _WORD.sub("-", branch.lower()).strip("-.")[:80]
    if plain == branch:
        return plain
    return f"{plain or 'branch'}-{hashlib.sha256(branch.encode()).hexdigest()[:8]}"


def content_tag(image: str) -> str:
    """Return the tag under which an image is kept in a registry whatever its other tags become: made of its id."""
    return f"pipe-{image.removeprefix('sha256:')[:24]}"


def cache_tag(stage: str, branch: str) -> str:
    """Return the tag in a registry under which other hosts find this branch's layers."""
    return f"pipe-cache-{tag_of(stage)[:30]}-{tag_of(branch)}"[:128]


def labels(installation: str, pipeline: str, stage: str) -> Mapping[str, str]:
    """Return the labels of the images that a stage builds."""
    return {INSTALLATION: installation, PIPELINE: pipeline, STAGE: stage}


def stage_key(work: Work) -> str:
    """Return the stage's name with its matrix combination, where it has one, as a short hash."""
    if not work.stage.matrix:
        return work.stage.base
    combination = repr(sorted(work.stage.matrix.items()))
    return f"{work.stage.base}-{hashlib.sha256(combination.encode()).hexdigest()[:8]}"


def line_of(work: Work) -> str:
    """Return the line of development that a build belongs to: its branch, apart from what is not trusted."""
    event = work.run.event
    branch = event.branch or event.tag or "detached"
    return branch if work.run.trusted else f"untrusted/{event.number or branch}"


def _repository(text: str) -> str:
    return re.sub(r"[-_.]{2,}", "-", text).strip("-_.") or "x"
