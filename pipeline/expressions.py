"""The two kinds of expressions: `${{ dotted.path }}` in typed fields, and CEL in `if`.

Parse first, then evaluate: `${{ }}` holds a dotted path and nothing else, and is filled in just before a
stage starts, in the fields listed here and nowhere else; what it names is checked by `checks`. CEL
(https://github.com/google/cel-spec) is compiled when a definition is read, so that its mistakes have a
position; it knows only what is known before a run starts, and can neither loop for long nor act.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.errors import DefinitionError

_OPEN = re.compile(r"\$\{\{(?P<inside>.*?)(?:\}\}|(?P<unclosed>\Z))", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*")

# What `${{ }}` and CEL may name beside stages, inputs and matrix.
GIT = ("ref", "sha", "short_sha", "branch", "tag", "message", "author")
RUN = ("number", "event")
STAGE = ("image", "digest", "outputs")

# The typed fields of a stage; `*` is any key, positions in lists are left out.
TYPED_FIELDS = (
    *("image", "workdir", "user", "env.*", "concurrency.group", "cache.key", "cache.key.prefix"),
    *("services.*.image", "services.*.env.*", "services.*.command", "promote.verify.image"),
    *("build.context", "build.dockerfile", "build.target", "build.args.*", "build.platforms"),
    *("push.image", "push.to", "push.tags"),
)
_TYPED = frozenset(tuple(field.split(".")) for field in TYPED_FIELDS)
_FIRSTS = frozenset(field[0] for field in _TYPED)


class Reference(NamedTuple):
    """One `${{ }}` of a text; `path` is empty when it holds something else than a dotted path."""

    path: tuple[str, ...]
    start: int
    text: str


def references(text: str) -> Iterator[Reference]:
    """Yield every `${{ }}` of a text, well-formed or not."""
    for found in _OPEN.finditer(text) if "${{" in text else ():
        inside = found["inside"].strip()
        good = found["unclosed"] is None and _PATH.fullmatch(inside)
        yield Reference(tuple(inside.split(".")) if good else (), found.start(), found[0][:80])


def typed(path: tuple[str | int, ...]) -> bool:
    """Tell whether the value at `path` of a stage is a typed field, where `${{ }}` may stand."""
    if not path or path[0] not in _FIRSTS:
        return False
    keys = tuple(part for part in path if isinstance(part, str))
    if keys in _TYPED:
        return True
    for field in _TYPED:
        if len(field) == len(keys) and all(want in ("*", key) for want, key in zip(field, keys, strict=True)):
            return True
    return False


def fill(spec: Mapping[str, Any], context: Mapping[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """Return a stage's data with every `${{ }}` of its typed fields filled in from `context`.

    An empty tag of a `push` is dropped, and named in `notes`. Raises DefinitionError for what `context` lacks.
    """
    filled: dict[str, Any] = _walk(spec, (), lambda text, path: _filled(text, context) if typed(path) else text)
    push = filled.get("push")
    if push and isinstance(push.get("tags"), list):
        kept = [tag for tag in push["tags"] if tag]
        for written in (t for t, now in zip(spec["push"]["tags"], push["tags"], strict=True) if not now):
            if notes is not None:
                notes.append(f"the tag {written or '``'} is empty and was dropped")
        filled["push"] = {**push, "tags": kept}
    return filled


def fill_text(text: str, context: Mapping[str, Any]) -> str:
    """Return one text with every `${{ }}` filled in. Raises DefinitionError for what `context` lacks."""
    return _filled(text, context)


def bind_inputs(spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return an included stage with its own `inputs` put in: in typed fields as text, in `if` as CEL literals."""

    def one(text: str, path: tuple[str | int, ...]) -> str:
        if path[:1] == ("when",) and path[-1] == "if":
            return _bound(text, inputs)
        return _OPEN.sub(lambda m: _given(m, inputs), text) if typed(path) else text

    filled: dict[str, Any] = _walk(spec, (), one)
    return filled


def _given(found: re.Match[str], inputs: Mapping[str, Any]) -> str:
    scope, _, name = found["inside"].strip().partition(".")
    return as_text(inputs[name]) if scope == "inputs" and name in inputs else found[0]


def as_text(value: object) -> str:
    """Return a value as commands see it: true and false in lower case, numbers as they are written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(getattr(value, "raw", value))


def _walk(data: Any, path: tuple[str | int, ...], one: Callable[[str, tuple[str | int, ...]], str]) -> Any:
    if isinstance(data, str):
        return one(data, path) if "$" in data or path[-1:] == ("if",) else data
    if isinstance(data, Mapping):
        return {key: _walk(value, (*path, key), one) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_walk(value, (*path, index), one) for index, value in enumerate(data)]
    return data


def _filled(text: str, context: Mapping[str, Any]) -> str:
    return _OPEN.sub(lambda found: _looked_up(found, context), text)


def _looked_up(found: re.Match[str], context: Mapping[str, Any]) -> str:
    path = found["inside"].strip()
    if found["unclosed"] is not None or not _PATH.fullmatch(path):
        raise DefinitionError(f"{found[0][:80]}: not a dotted path", hint="write ${{ git.sha }}, nothing more")
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            hint = "`pipe lint` says what can be named here"
            if path.startswith("stages."):
                hint = f"the stage `{path.split('.')[1]}` was skipped or did not succeed; need it without `optional`"
            raise DefinitionError(f"${{{{ {path} }}}} has no value in this run", hint=hint)
        value = value[part]
    if isinstance(value, Mapping | list):
        raise DefinitionError(f"${{{{ {path} }}}} is not a text", hint="name one of its values")
    return as_text(value)


# --- CEL ------------------------------------------------------------------------------------------------------------

MAX_CONDITION = 2000  # characters
CEL_VARIABLES = ("event", "branch", "tag", "paths", "inputs", "matrix", "git")
_CEL_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))"""
    r"""|(?P<comment>//[^\n]*)|(?P<name>(?<![\w.])(?P<scope>inputs|matrix|git)\s*\.\s*(?P<key>\w+))""",
    re.DOTALL,
)
_CEL_ERROR = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")


class Flaw(NamedTuple):
    """What is wrong in a CEL text, at a line and column of that text (from 1)."""

    message: str
    line: int = 1
    column: int = 1


def condition_flaw(text: str) -> Flaw | None:
    """Return what is wrong with a CEL condition, or None when it can be evaluated to true or false."""
    result = _compiled(text)
    return result if isinstance(result, Flaw) else None


def condition_names(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield (scope, key, offset) of every `inputs.x`, `matrix.x` and `git.x` in a CEL text."""
    for found in _CEL_TOKEN.finditer(text):
        if found["name"]:
            yield found["scope"], found["key"], found.start("key")


def evaluate(text: str, variables: Mapping[str, Any]) -> bool:
    """Evaluate a CEL condition over `variables` (see CEL_VARIABLES). Raises DefinitionError when it can not be."""
    program = _compiled(text)
    if isinstance(program, Flaw):
        raise DefinitionError(f"`{text}`: {program.message}", hint=_CEL_HINT)
    try:
        result = program.eval(data={**_EMPTY, **variables})
        value, kind = result.value(), result.type().name()
    except RuntimeError as error:
        raise DefinitionError(f"`{text}` can not be evaluated: {_first_line(error)}", hint=_CEL_HINT) from None
    if kind != "BOOL":
        what = str(value).partition("\n")[0]
        raise DefinitionError(f"`{text}` is not true or false here: {what}", hint=_CEL_HINT)
    return bool(value)


_CEL_HINT = "conditions are CEL, like branch == 'main' && inputs.e2e == true"
_EMPTY = {"event": "", "branch": "", "tag": "", "paths": [], "inputs": {}, "matrix": {}, "git": {}}


def _bound(text: str, inputs: Mapping[str, Any]) -> str:
    """Replace `inputs.name` of a CEL text by literals; what stands in quotes or comments stays."""

    import json  # only included files come here

    def one(found: re.Match[str]) -> str:
        if found["scope"] != "inputs" or found["key"] not in inputs:
            return found[0]
        value = inputs[found["key"]]
        return json.dumps(value if isinstance(value, bool | int | float | str) else as_text(value), ensure_ascii=False)

    return _CEL_TOKEN.sub(one, text)


@lru_cache(maxsize=1)
def _environment() -> Any:
    from cel_expr_python import cel  # type: ignore[import-untyped]  # a large library: only definitions with an `if` load it

    kinds = cel.Type
    texts = kinds.Map(kinds.STRING, kinds.STRING)
    variables = {
        **dict.fromkeys(("event", "branch", "tag"), kinds.STRING),
        "paths": kinds.List(kinds.STRING),
        "inputs": kinds.Map(kinds.STRING, kinds.DYN),
        "matrix": texts,
        "git": texts,
    }
    return cel.NewEnv(variables=variables)


@lru_cache(maxsize=512)
def _compiled(text: str) -> Any:
    if len(text) > MAX_CONDITION:
        return Flaw(f"a condition has at most {MAX_CONDITION} characters")
    if "${{" in text:
        return Flaw("`${{ }}` does not stand in `if`: write the name alone, like inputs.e2e == true", 1, 1)
    try:
        program = _environment().compile(text)
    except RuntimeError as error:
        return _flaw(str(error))
    kind = program.return_type().name()
    return program if kind in ("BOOL", "DYN") else Flaw(f"this is not true or false, but {kind.lower()}")


def _flaw(message: str) -> Flaw:
    found = _CEL_ERROR.search(message)
    if "recursion" in message:
        return Flaw("the condition is nested too deep")
    if not found:
        return Flaw(_first_line(message).rpartition(" [")[0] or _first_line(message))
    line, column, what = int(found[1]), int(found[2]), found[3]
    if what.startswith("Syntax error: mismatched input '<EOF>'"):
        what = "something is missing at the end"
    what = what.removesuffix(" [INVALID_ARGUMENT]").removesuffix(" (in container '')")
    return Flaw(what[:200], max(1, line), max(1, column))


def _first_line(error: object) -> str:
    return str(error).partition("\n")[0][:200]
