"""Where the images of a run are pushed to. For a local run that is this machine's own registry, whatever is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import DefinitionError
from runners import local_registry, registry
from runners.registry import Repository

if TYPE_CHECKING:
    from runners.stages import Work

_BUILT_BY = re.compile(r"\s*\$\{\{\s*stages\.([A-Za-z0-9_-]+)\.image\s*\}\}\s*")


def destination(work: Work, to: str) -> Repository:
    """Return where an image is really pushed. Raises DefinitionError."""
    written = registry.parse(to)
    return Repository(local_registry.host(work.settings), written.name) if work.run.scope else written


def built_by(push: Mapping[str, Any]) -> str:
    """Return the name of the stage whose image a push stage of the definition sends, or ""."""
    match = _BUILT_BY.fullmatch(str(push.get("image") or ""))
    return match[1] if match else ""


def of_build(work: Work) -> list[str]:
    """Return the repositories to which the definition pushes what this stage builds."""
    stages = work.run.definition.get("stages")
    found = []
    for stage in (stages if isinstance(stages, Mapping) else {}).values():
        push = stage.get("push")
        if push and built_by(push) == work.stage.base and "${{" not in str(push["to"]):
            try:
                found.append(str(destination(work, str(push["to"]))))
            except DefinitionError:  # the push stage itself will say so
                continue
    return list(dict.fromkeys(found))
