"""The JSON Schema of `pipe.yml` and `environments.yml`, for editors: made from the models and their comments.

Shipped beside this file as `pipe.schema.json` and `environments.schema.json`; a test keeps them equal to what is
made here. Editors check shape with it; what keys mean to each other only `pipe lint` knows.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.definition import Definition
from pipeline.policy import Environments
from pipeline.vocabulary import Reads, seconds

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition."""
    return _schema(Definition, "pipe", "A pipeline: what starts it, its stages, how its application runs.")


def environments_schema() -> dict[str, Any]:
    """Return the JSON Schema of the operator's environments."""
    return _schema(Environments, "environments", "Where applications are live, and what may be promoted there.")


def _schema(model: type[BaseModel], name: str, description: str) -> dict[str, Any]:
    made = model.model_json_schema(by_alias=True)
    classes = {found.__name__: found for found in models(model)}
    for title, part in [(model.__name__, made), *made.get("$defs", {}).items()]:
        if title in classes:
            _describe(part, classes[title])
    head = {"$schema": DIALECT, "$id": f"urn:pipewright:{name}:1", "title": f"{name}.yml", "description": description}
    return {**head, **{key: value for key, value in made.items() if key not in head}}


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    told = comments(model)
    for key, value in part.get("properties", {}).items():
        value.pop("title", None)
        value.pop("default", None)  # as a model knows it: not as a person writes it
        if told.get(key):
            value["description"] = told[key]
    if model.__name__ == "Matrix":
        part["additionalProperties"] = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and every model that can stand inside it, each once, in the order of the reference."""
    seen: dict[type[BaseModel], None] = {}
    todo = [model]
    while todo:
        one = todo.pop(0)
        if one not in seen:
            seen[one] = None
            todo += [found for field in one.model_fields.values() for found in _inside(field.annotation)]
    yield from seen


def _inside(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in getattr(kind, "__args__", ()):
        yield from _inside(inner)


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Return what the `#:` comment of each key says, by the key as it is written in a file."""
    lines, tree = _source(model.__module__)
    told = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    field = model.model_fields.get(item.target.id)
                    comment = lines[(item.end_lineno or item.lineno) - 1].partition("#: ")[2]
                    if field is not None:
                        told[field.alias or item.target.id] = comment.strip()
    return told


def defaults(model: type[BaseModel]) -> dict[str, str]:
    """Return what each key is when it is left out, as a person would write it; `required`, or empty for nothing."""
    return {field.alias or name: _default(field) for name, field in model.model_fields.items()}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined or value in ({}, ""):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if any(isinstance(word, Reads) and word.convert is seconds for word in field.metadata):
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
            if value >= 2 * length and value % length == 0:
                return f"{value // length:.0f}{unit}"
        return f"{value:g}s"
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


@cache
def _source(module: str) -> tuple[list[str], ast.Module]:
    text = inspect.getsource(sys.modules[module])
    return text.splitlines(), ast.parse(text)
