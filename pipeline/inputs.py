"""Typed inputs: which values a person, or an including file, may give, and what they are when left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.expressions import as_text
from pipeline.mistakes import closest
from pipeline.occasions import Input

Flaw = tuple[str, str, str]  # name of the input, what is wrong, what to do


def settle(asked: Mapping[str, Input], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Flaw]]:
    """Return the value of every input that is asked for, and everything that is wrong with what was given."""
    values: dict[str, Any] = {}
    flaws: list[Flaw] = []
    for name in given:
        if name not in asked:
            meant = closest(name, asked)
            hint = f"did you mean `{meant}`?" if meant else f"it asks for: {', '.join(asked) or 'nothing'}"
            flaws.append((name, f"there is no input `{name[:80]}`", hint))
    for name, wanted in asked.items():
        value = given.get(name, wanted.default)
        if value is None:
            if wanted.required:
                flaws.append((name, f"the input `{name}` is missing", wanted.description))
            value = {"boolean": False, "number": 0}.get(wanted.type, "")
        elif flaw := input_flaw(wanted, value):
            flaws.append((name, f"the input `{name}` {flaw}", wanted.description))
        values[name] = as_text(value) if wanted.type in ("string", "choice") else value
    return values, flaws


def read(wanted: Input, text: str) -> Any:
    """Read what a person typed for an input; text that does not fit its type is returned as it is."""
    if wanted.type == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if wanted.type == "number":
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def input_flaw(wanted: Input, value: object) -> str:
    """Return why `value` can not be given for an input, or an empty string."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted.type == "boolean" and not isinstance(value, bool):
        return "must be true or false"
    if wanted.type == "number" and not (number and math.isfinite(value)):  # type: ignore[arg-type]
        return "must be a number"
    if wanted.type == "string" and isinstance(value, bool):
        return "must be a text"
    if wanted.type == "choice" and as_text(value) not in wanted.options:
        return f"must be one of {', '.join(wanted.options)}"
    return ""
