"""The words of the language: durations, sizes, names, lists of text, and how each looks in the JSON Schema.

Types only; which key takes which word is `definition` (the author's file) and `policy` (the operator's).
The markers below say in one place how a word is read and how editors see it; they give pydantic its
core schema directly, which costs less at start than validators that it has to inspect.
"""

import re
import sys
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, StringConstraints
from pydantic_core import CoreSchema, core_schema

if "importlib.metadata" not in sys.modules:
    # For its first model pydantic reads the metadata of every installed package to find plug-ins: a tenth of
    # what `pipe lint` may take, for plug-ins that should not judge a definition anyway.
    _no_plugins = types.ModuleType("pydantic.plugin._loader")
    _no_plugins.get_plugins = lambda: ()  # type: ignore[attr-defined]
    sys.modules.setdefault(_no_plugins.__name__, _no_plugins)

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LONGEST_SECONDS = 100 * 366 * 86400.0


def seconds(value: object) -> float:
    """Read a duration such as `90s`, `15m`, `1h30m`; a bare number is refused because its unit is unclear."""
    if isinstance(value, str) and len(value) < 60 and value and _DURATION.sub("", value) == "":
        total = float(sum(float(n) * _UNITS[u] for n, u in _DURATION.findall(value)))
        if total <= _LONGEST_SECONDS:
            return total
        raise ValueError("a duration is at most a hundred years")
    if type(value) in (int, float):  # already read: a definition that was saved and loaded again
        return float(value)  # type: ignore[arg-type]
    raise ValueError("a duration is written with its unit, like 90s, 15m or 1h30m")


def size_bytes(value: object) -> int:
    """Read a size such as `512m` or `2GiB` into bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 30 else None
    if not match:
        raise ValueError("a size is written like 512m or 2GiB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def no_items() -> list[Any]:
    """Return an empty list. Of a function of ours pydantic learns the signature ten times faster than of `list`."""
    return []


def no_entries() -> dict[Any, Any]:
    """Return an empty mapping."""
    return {}


def listed(value: object) -> object:
    """Wrap what is not a list into one."""
    return value if isinstance(value, list | tuple) else [value]


def as_written(value: object) -> object:
    """Return the text that stood in the file for a number or a truth value: `3.10` stays `3.10`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return getattr(value, "raw", None) or str(value)
    return value


class Reads:
    """Marker: run `convert` before validation; show `shape` (or, for lists, also the single item) to editors."""

    def __init__(self, convert: Callable[[Any], Any], shape: dict[str, Any] | None = None) -> None:
        self.convert = convert
        self.shape = shape

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.convert, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = dict(handler(schema))
        if self.shape is None:  # a list that may be written as its single item
            return {"anyOf": [inner.get("items", {}), inner]}
        if set(self.shape) == {"or"}:  # a mapping that may be written shorter
            return {"anyOf": [self.shape["or"], inner]}
        return dict(self.shape)


class Short:
    """Marker: a bare text stands for the mapping `{key: text}`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        key = self.key
        return core_schema.no_info_before_validator_function(
            lambda value: {key: value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, dict(handler(schema))]}


LISTED = Reads(listed)
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
_DURATIONS = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$", "examples": ["90s", "15m", "1h30m"]}
_BYTES = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?([kKmMgGtT]?)([iI]?[bB])?$"}]}

Duration = Annotated[float, Reads(seconds, _DURATIONS)]
Size = Annotated[int, Reads(size_bytes, _BYTES)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
SecretName = Variable
EnvName = Variable
Text = Annotated[str, Reads(as_written, _TEXTS)]
Strings = Annotated[list[str], LISTED]
Texts = Annotated[list[Text], LISTED]
Env = dict[Variable, Text]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Count = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[int, Strict(), Field(ge=1)]
Flag = Annotated[bool, Strict()]


class Model(BaseModel):
    """Unknown keys are errors; values do not change once read. Validators are built at first use, all at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class SecretUse(Model):
    """A secret by name, as a file in memory under /run/secrets (default) or as an environment variable."""

    name: SecretName  #: the secret
    as_: Literal["file", "env"] = Field(default="file", alias="as")  #: a file /run/secrets/NAME, or a variable


SecretUses = list[Annotated[SecretUse, Short("name")]]


def as_data(model: BaseModel) -> dict[str, Any]:
    """Return plain data, as the author wrote it, that validates to an equal model again."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)
