"""Check what expressions name: `${{ }}` in typed fields only, and `if` in CEL, each name known and within reach."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline import expressions
from pipeline.checks.finder import Finder
from pipeline.definition import Stage
from pipeline.expressions import Reference
from pipeline.matrix import axes
from pipeline.mistakes import Mistake, closest
from pipeline.positions import Path
from pipeline.yamltree import Mapping, Sequence


def check(finder: Finder) -> None:
    """Add every mistake of an expression."""
    if any("${{" in text for text in finder.texts.values()):
        for path, text in _texts(finder.positions.tree, ()):
            _text(finder, path, text)
    for name, stage in finder.stages():
        for index, item in enumerate(stage.when):
            if item.if_ is not None:
                _condition(finder, ("stages", name, "when", index, "if"), item.if_, stage)


def _texts(node: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text of a tree that holds `${{`, with its path."""
    if isinstance(node, str):
        if "${{" in node:
            yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, (*path, key))
    elif isinstance(node, Sequence):
        for index, value in enumerate(node):
            yield from _texts(value, (*path, index))


def _text(finder: Finder, path: Path, text: str) -> None:
    in_stage = len(path) > 2 and path[0] == "stages"
    at_start = path[0] == "env" or path == ("concurrency", "group")
    if path[-1] == "if" and "when" in path:
        return  # told with the condition
    if not (at_start or (in_stage and expressions.typed(path[2:]))):
        for reference in expressions.references(text):
            hint = "use $VAR: env, inputs and matrix are variables there"
            keys = [part for part in path if isinstance(part, str)]
            if keys[-1] not in ("run", "command"):
                hint = "it may stand in image, env, build, push, services, workdir, cache key and concurrency"
            finder.wrong_inside(path, reference.text, f"`${{{{ }}}}` does not stand in `{keys[-1]}`", hint)
        return
    stage = finder.definition.stages.get(str(path[1])) if in_stage else None
    for reference in expressions.references(text):
        message, hint = _flaw(finder, reference, str(path[1]) if in_stage else "", stage)
        if message:
            finder.wrong_inside(path, reference.text, message, hint)


def _flaw(finder: Finder, reference: Reference, name: str, stage: Stage | None) -> tuple[str, str]:
    """Return what is wrong with one `${{ }}`, and what to do."""
    path = reference.path
    if not path:
        return f"`{reference.text}` is not a dotted path", "write ${{ git.sha }}: a name, and nothing to compute"
    shown = ".".join(path)
    known: Collection[str]
    if path[0] == "git":
        known = expressions.GIT
    elif path[0] == "run":
        known = expressions.RUN
    elif path[0] == "inputs":
        known = _inputs(finder)
    elif path[0] == "matrix" and name:
        known = _axes(stage)
    elif path[0] == "stages" and name:
        return _stage_flaw(finder, path, name)
    else:
        scopes = ("git", "run", "inputs", "matrix", "stages") if name else ("git", "inputs")
        meant = closest(path[0], scopes)
        return (
            f"`{shown}` names nothing",
            f"did you mean `{meant}`?" if meant else f"it begins with {', '.join(scopes)}",
        )
    if len(path) == 2 and path[1] in known:
        if path[0] == "run" and not name:
            return f"`{shown}` is not known before the run", "use git.* or inputs.*"
        return "", ""
    return f"`{shown}` names nothing", _suggest(path, known)


def _suggest(path: tuple[str, ...], known: Collection[str]) -> str:
    meant = closest(path[1], known) if len(path) > 1 else ""
    if meant:
        return f"did you mean `{path[0]}.{meant}`?"
    return f"there is: {', '.join(f'{path[0]}.{k}' for k in known)}" if known else f"no {path[0]} are declared"


def _stage_flaw(finder: Finder, path: tuple[str, ...], name: str) -> tuple[str, str]:
    shown = ".".join(path)
    if len(path) < 3:
        return f"`{shown}` names nothing", "like stages.NAME.image, .digest or .outputs.NAME"
    other = path[1]
    if other in finder.broken or name in finder.broken:
        return "", ""
    if not finder.known(other):
        meant = closest(other, finder.definition.stages)
        return f"there is no stage `{other}`", f"did you mean `stages.{meant}.{path[2]}`?" if meant else ""
    if not finder.comes_before(other, name):
        return f"`{name}` does not need the stage `{other}`, so nothing is known of it", f"add {other} to `needs`"
    source = finder.definition.stages[other]
    if source.matrix:
        return f"the stage `{other}` has a matrix, so there are several of `{shown}`", "name a stage without a matrix"
    if path[2] == "image" and len(path) == 3:
        return (
            ("", "") if source.kind in ("build", "push") else (f"the stage `{other}` makes no image", "name a `build`")
        )
    if path[2] == "digest" and len(path) == 3:
        return ("", "") if source.kind == "push" else (f"only a `push` has a digest, `{other}` is none", "use .image")
    if path[2] == "outputs" and len(path) == 4:
        if path[3] in source.outputs:
            return "", ""
        meant = closest(path[3], source.outputs)
        hint = f"did you mean `{meant}`?" if meant else f"declare it there: outputs: [{path[3]}]"
        return f"the stage `{other}` has no output `{path[3]}`", hint
    return f"`{shown}` names nothing", "a stage has image, digest and outputs.NAME"


def _inputs(finder: Finder) -> Collection[str]:
    manual = finder.definition.on.manual
    return manual.inputs if manual else ()


def _axes(stage: Stage | None) -> Collection[str]:
    if stage is None or stage.matrix is None:
        return ()
    return {**axes(stage.matrix), **{key: () for item in stage.matrix.include for key in item}}


def _condition(finder: Finder, path: Path, text: str, stage: Stage) -> None:
    flaw = expressions.condition_flaw(text)
    if flaw is not None:
        place = finder.positions.within(path, finder.texts, text, _offset(text, flaw))
        finder.add(Mistake(place.file, place.line, place.column, f"`if`: {flaw.message}", _CEL_HINT))
        return
    known = {"inputs": _inputs(finder), "matrix": _axes(stage), "git": expressions.GIT}
    for scope, key, _ in expressions.condition_names(text):
        if key not in known[scope]:
            hint = _suggest((scope, key), known[scope])
            finder.wrong_inside(path, f"{scope}.{key}", f"`if`: `{scope}.{key}` names nothing", hint)


def _offset(text: str, flaw: expressions.Flaw) -> int:
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: flaw.line - 1])) + flaw.column - 1


_CEL_HINT = "conditions are CEL, like branch == 'main'; names: event branch tag paths inputs matrix git"
