"""Say of each instruction of a build whether its layer was there, and if not, which file or argument broke it.

Pure: it compares what the builder reported and what went in with the record of the build before.
Seconds saved are those that the instruction took when it was last carried out here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runners.build_context import Files, differing
from runners.buildkit import Step

_NAMED = 5  # files named before "and n more"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What went into a build, to be compared with the next one's."""

    files: Files | None  # None: too many to tell
    args: Mapping[str, str]  # name -> hash: a value may be nobody's business
    dockerfile: str  # its hash
    bases: Mapping[str, str]  # image of a FROM -> its id here

    def as_data(self) -> dict[str, Any]:
        """Return plain data, read back by `inputs_from`."""
        files = None if self.files is None else {path: list(facts) for path, facts in self.files.items()}
        return {"files": files, "args": dict(self.args), "dockerfile": self.dockerfile, "bases": dict(self.bases)}


def inputs_from(data: Mapping[str, Any]) -> Inputs:
    """Read what `Inputs.as_data` gave."""
    files = data.get("files")
    read = None if files is None else {path: (str(f[0]), int(f[1]), int(f[2])) for path, f in files.items()}
    dockerfile, bases = str(data.get("dockerfile") or ""), dict(data.get("bases") or {})
    return Inputs(read, dict(data.get("args") or {}), dockerfile, bases)


def hashed(args: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments of a build with hashes in place of values."""
    return {name: hashlib.sha256(value.encode()).hexdigest()[:20] for name, value in args.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction in the report."""

    stage: str
    text: str
    hit: bool
    seconds: float  # that it took now
    cost_seconds: float  # that it took when it was last carried out
    why: str  # it was carried out
    started: float  # by the builder's clock
    finished: float  # when the whole build was

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Report:
    """The cache report of one build."""

    lines: tuple[Line, ...]

    @property
    def hits(self) -> int:
        """Return how many instructions were found in the cache."""
        return sum(line.hit for line in self.lines)

    @property
    def saved_seconds(self) -> float:
        """Return how many seconds the cache saved."""
        return sum(line.cost_seconds for line in self.lines if line.hit)

    def as_data(self) -> dict[str, Any]:
        """Return plain data: counts, seconds saved, and each instruction."""
        return {
            "hits": self.hits,
            "instructions": len(self.lines),
            "saved_seconds": round(self.saved_seconds, 3),
            "steps": [line.as_data() for line in self.lines],
        }

    def text(self) -> list[str]:
        """Return the report for people: a summary, then an instruction to a line."""
        saved = f", {self.saved_seconds:.1f} s saved" if self.saved_seconds >= 0.05 else ""
        shown = [f"cache: {self.hits} of {len(self.lines)} instructions HIT{saved}"]
        for line in self.lines:
            took = "" if line.hit else f"  {line.seconds:.1f} s"
            why = f"  ({line.why})" if line.why else ""
            shown.append(f"  {'HIT ' if line.hit else 'MISS'}  {_one_line(line.text)}{took}{why}")
        return shown


def report(steps: Iterable[Step], now: Inputs, before: Inputs | None, recorded: Iterable[Mapping[str, Any]]) -> Report:
    """Compare a build with the one before; `before` is None when there was none on this branch or the default one."""
    costs = {(str(line["stage"]), str(line["text"])): float(line["cost_seconds"]) for line in recorded}
    steps = list(steps)
    finished = max((step.completed for step in steps), default=0.0)
    lines: list[Line] = []
    missed: list[str] = []
    for step in _in_order(steps):
        key = (step.stage, step.text)
        # never started: what comes after it was found, so it was not needed
        hit = step.cached or not step.started or (is_base(step) and not step.pulled)
        why = "" if hit else _why(step, missed, now, before, key in costs)
        if not hit and not is_base(step):
            missed.append(step.stage)
        cost = costs.get(key, 0.0) if hit else step.seconds
        took = round(step.seconds, 3)
        lines.append(Line(step.stage, step.text, hit, took, round(cost, 3), why, step.started, finished))
    return Report(tuple(lines))


def bases(steps: Iterable[Step]) -> list[str]:
    """Return the images that the build began from."""
    return sorted({_words(step.text)[1] for step in steps if is_base(step)})


def is_base(step: Step) -> bool:
    """Tell whether a step is a FROM."""
    return step.number > 0 and _verb(step.text) == "FROM"


def _in_order(steps: Iterable[Step]) -> list[Step]:
    """Sort as in the Dockerfile: the builder reports from the last instruction back to the first."""
    found = [step for step in steps if step.number]
    stages = list(dict.fromkeys(step.stage for step in found))
    return sorted(found, key=lambda step: (-stages.index(step.stage), step.number))


def _why(step: Step, missed: list[str], now: Inputs, before: Inputs | None, known: bool) -> str:
    if before is None:
        return "first build here"
    if is_base(step):
        return "it was not here"
    if step.stage in missed:
        return "follows from the one above"
    from_stage = _option(step.text, "--from")
    if any(from_stage == stage.split(" ")[-1] for stage in missed):
        return f"follows from the stage {from_stage}"
    why = ""
    if _verb(step.text) in ("COPY", "ADD") and not from_stage:
        why = _files(step, now, before)
    why = why or _arguments(now, before) or _bases(now, before)
    if not why and (not known or now.dockerfile != before.dockerfile):
        why = "the instruction is new or changed"
    if not why and missed:
        why = f"follows from the stage {missed[-1]}"
    return why or "the builder no longer had it"


def _bases(now: Inputs, before: Inputs) -> str:
    changed = [name for name, image in now.bases.items() if before.bases.get(name, image) != image]
    return f"the base image {', '.join(changed)} changed" if changed else ""


def _files(step: Step, now: Inputs, before: Inputs) -> str:
    if now.files is None or before.files is None:
        return "a file changed; the context is too large to tell which"
    changed = differing(before.files, now.files, _words(step.text)[1:-1])
    named = ", ".join(changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return f"{named}{more} changed" if changed else ""


def _arguments(now: Inputs, before: Inputs) -> str:
    names = now.args.keys() | before.args.keys()
    changed = sorted(name for name in names if now.args.get(name) != before.args.get(name))
    return f"argument {', '.join(changed)} changed" if changed else ""


def _verb(text: str) -> str:
    return text.split(" ", 1)[0].upper()


def _option(text: str, name: str) -> str:
    match = re.search(rf"\s{name}=(\S+)", text)
    return match[1] if match else ""


def _words(text: str) -> list[str]:
    """Split an instruction into verb, sources and destination, without options; the JSON form as well."""
    verb, _, rest = text.partition(" ")
    while rest.startswith("--"):
        rest = rest.partition(" ")[2].lstrip()
    if rest.startswith("["):
        try:
            return [verb, *json.loads(rest)]
        except ValueError:
            rest = rest.strip("[]").replace(",", " ")
    try:
        return [verb, *shlex.split(rest)]
    except ValueError:
        return [verb, *rest.split()]


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 100 else flat[:97] + "..."
