"""Expand a matrix into its combinations, in the order in which they are written. Nothing is dropped in silence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

from pipeline.definition import Matrix

MAX_COMBINATIONS = 256


def axes(matrix: Matrix) -> dict[str, list[str]]:
    """Return the axes and their values."""
    return dict(matrix.__pydantic_extra__ or {})


def size(matrix: Matrix) -> int:
    """Return how many combinations there are before `exclude`, without making them."""
    found = axes(matrix)
    return (math.prod(len(values) for values in found.values()) if found else 0) + len(matrix.include)


def combinations(matrix: Matrix) -> list[dict[str, str]]:
    """Return every combination: the product of the axes without `exclude`, then `include`.

    An item of `include` whose axes all exist extends the combinations that it agrees with when it only adds
    new keys; else it is a combination of its own.
    """
    found = axes(matrix)
    names = list(found)
    made = [dict(zip(names, values, strict=True)) for values in product(*found.values())] if names else []
    kept = [one for one in made if not any(_agrees(one, out) for out in matrix.exclude)]
    for extra in matrix.include:
        shared = {key: value for key, value in extra.items() if key in found}
        added = {key: value for key, value in extra.items() if key not in found}
        fitting = [one for one in kept if added and shared and _agrees(one, shared)]
        for one in fitting:
            one.update(added)
        if not fitting and extra not in kept:
            kept.append(dict(extra))
    return kept


def named(stage: str, combination: Mapping[str, str]) -> str:
    """Return the name of one combination of a stage, such as `unit [shard=1]`."""
    inside = ", ".join(f"{key}={value}" for key, value in combination.items())
    return f"{stage} [{inside}]" if inside else stage


def _agrees(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(one.get(key) == value for key, value in other.items())
