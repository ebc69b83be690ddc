"""Say pydantic's findings in the words of the language, at their place, with what was probably meant."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.mistakes import MOST, Mistake, closest
from pipeline.positions import Path, Positions
from pipeline.yamltree import Mapping

_KINDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "NoneType": "nothing"}
_KINDS |= {"Integer": "a number", "Float": "a number", "Mapping": "a mapping", "Sequence": "a list"}
_KINDS |= {"dict": "a mapping", "list": "a list", "tuple": "a list"}
_NAME_HINT = "names are lower-case letters, digits, - and _, and begin with a letter (at most 63)"
_VARIABLE_HINT = "letters, digits and _, not beginning with a digit"


def worded(error: ValidationError, model: type[BaseModel], positions: Positions) -> list[Mistake]:
    """Return one mistake per finding, at most MOST; of several about one place only the one that goes deepest."""
    found: dict[tuple[Any, ...], tuple[int, Mistake]] = {}
    for item in error.errors(include_url=False)[:MOST]:
        path, here = _tree_path(item["loc"], positions)
        mistake = _mistake(item, path, here, model, positions)
        place = (mistake.file, mistake.line, mistake.column)
        depth = -len(path) if item["type"] == "literal_error" and here is None else len(path)
        if place not in found or found[place][0] < depth or item["type"] == "extra_forbidden":
            found[place] = (depth, mistake)
    return [mistake for _, mistake in found.values()]


def _tree_path(loc: tuple[int | str, ...], positions: Positions) -> tuple[Path, Any]:
    """Return the part of `loc` that is written in the file, and the value there; unions put their tags in between."""
    node, path = positions.tree, []
    for part in loc:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
        if not isinstance(node, dict | list):
            break
    return tuple(path), node


def _mistake(item: Any, path: Path, here: Any, model: type[BaseModel], positions: Positions) -> Mistake:
    kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
    name = f"`{_shown(path)}`" if path else "the file"
    if kind == "extra_forbidden":
        known = sorted(_keys(model, path[:-1]))
        meant = closest(str(path[-1]), known)
        hint = f"did you mean `{meant}`?" if meant else f"known here: {' '.join(known)}"
        return positions.mistake(path, f"unknown key {name}", hint, key=True)
    if kind == "missing":
        wanted = str(loc[-1])
        where = f"in {name}" if path else "at the top"
        return positions.mistake(path, f"the key `{wanted}` is missing {where}", key=True)
    if kind == "value_error":
        return positions.mistake(path, str(context.get("error", item["msg"])), key=isinstance(here, Mapping))
    if kind == "string_pattern_mismatch":
        text = str(item["input"])[:80]
        hint = _NAME_HINT if "a-z][a-z0-9_-]" in context.get("pattern", "") else _VARIABLE_HINT
        return positions.mistake(path, f"`{text}` can not be a name", hint, key=loc[-1] == "[key]")
    if kind == "literal_error":
        return _not_one_of(str(context.get("expected", "")), item["input"], path, name, positions)
    if kind in _WANTED:
        return _wrong_kind(_WANTED[kind], here if path else positions.tree, path, name, positions)
    if limit := _LIMITS.get(kind):
        bound = next((context[k] for k in ("ge", "gt", "le", "lt", "min_length", "max_length") if k in context), "")
        return positions.mistake(path, f"{name} must {limit} {bound}".rstrip())
    return positions.mistake(path, f"{name}: {item['msg'][:1].lower()}{item['msg'][1:]}")


_WANTED = {
    **dict.fromkeys(("string_type",), "a text"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
}
_LIMITS = {
    "greater_than_equal": "be at least",
    "greater_than": "be more than",
    "less_than_equal": "be at most",
    "less_than": "be less than",
    "too_short": "have at least this many entries:",
    "too_long": "have at most this many entries:",
    "finite_number": "be a finite number",
}


def _wrong_kind(wanted: str, here: Any, path: Path, name: str, positions: Positions) -> Mistake:
    found = _KINDS.get(type(here).__name__, "something else")
    hint = ""
    if wanted == "a text" and isinstance(here, int | float):
        hint = f'write "{getattr(here, "raw", str(here).lower())}" in quotes'
    elif wanted == "true or false" and isinstance(here, str) and here.lower() in ("yes", "on", "no", "off"):
        hint = f"write {'true' if here.lower() in ('yes', 'on') else 'false'}"
    elif here is None:
        hint = "give it a value, or leave the key out"
    return positions.mistake(path, f"{name} must be {wanted}, and is {found}", hint, key=here is None)


def _not_one_of(expected: str, value: Any, path: Path, name: str, positions: Positions) -> Mistake:
    allowed = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
    meant = closest(str(value), allowed)
    hint = f"did you mean `{meant}`?" if meant else ""
    shown = getattr(value, "raw", value)
    return positions.mistake(path, f"{name} is `{str(shown)[:80]}`; it can be {', '.join(allowed)}", hint)


def _shown(path: Path) -> str:
    """Return the last telling part of a path, as a person would say it."""
    words = [str(part)[:80] for part in path]
    if isinstance(path[-1], int):
        return f"{words[-2]}[{path[-1]}]" if len(path) > 1 else f"[{path[-1]}]"
    return words[-1]


def _keys(model: Any, path: Path) -> set[str]:
    """Return the keys that are known at `path` of `model`."""
    places: list[Any] = [model]
    for part in path:
        if not isinstance(part, int):  # lists are looked through
            places = [inner for place in places for inner in _step(place, part)]
    models = [place for place in places if _is_model(place)]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _step(kind: Any, part: str | int) -> Iterator[Any]:
    """Yield the models that stand under `part` of a model, or of what contains models."""
    if _is_model(kind):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                yield from _models(field.annotation)
    elif isinstance(kind, _Under):
        yield kind.model


def _models(kind: Any) -> Iterator[Any]:
    origin = get_origin(kind)
    if _is_model(kind):
        yield kind
    elif origin is Annotated:
        yield from _models(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for inner in get_args(kind):
            yield from _models(inner)
    elif origin is list:
        yield from _models(get_args(kind)[0])
    elif origin is dict:
        for inner in _models(get_args(kind)[1]):
            yield _Under(inner)


class _Under:
    """A mapping from names to models: one more path component leads to the model."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
