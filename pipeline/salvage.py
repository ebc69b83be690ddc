"""Save what is right of a wrong definition, so that its other mistakes can be told at the same time."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline.definition import Definition

_PASSES = 8  # leaving something out can show that what held it is wrong too


def readable_part(tree: Any) -> tuple[Definition | None, frozenset[str]]:
    """Return a definition of everything that is right by itself, and the names of the stages left out.

    What pydantic refuses is taken out, the smallest part first; a stage that can not be without it goes whole.
    """
    if not isinstance(tree, dict):
        return None, frozenset()
    data = _copied(tree)
    for _ in range(_PASSES):
        try:
            definition = Definition.model_validate(data)
        except ValidationError as error:
            items = error.errors(include_url=False, include_context=False, include_input=False)
            paths = {_written(data, item["loc"]) for item in items}
            for path in sorted(paths, key=lambda p: [(isinstance(k, str), k) for k in p], reverse=True):
                _remove(data, path)
            data = {"version": 1, "name": "unnamed", **data}
        else:
            stages = tree.get("stages")
            named = map(str, stages) if isinstance(stages, dict) else ()
            return definition, frozenset(set(named) - set(definition.stages))
    return None, frozenset()


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def _has(node: Any, part: int | str) -> bool:
    return part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))


def _written(data: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the part of pydantic's `loc` that is there."""
    node, path = data, []
    for part in loc:
        if _has(node, part):
            node = node[part]
            path.append(part)
    return tuple(path)


def _remove(data: Any, path: tuple[int | str, ...]) -> None:
    node = data
    for part in path[:-1]:
        if not _has(node, part):
            return  # went with something above it
        node = node[part]
    if path and _has(node, path[-1]):
        del node[path[-1]]
