"""Strict YAML 1.2 core values with their positions, composed from parser events under budgets.

Events come from libyaml where PyYAML has it: its parser keeps its state on the heap, and iteration stops at
the first event over a budget, so that neither depth, aliases nor size can hurt (its *composer* recurses in C
and dies on deep nesting: it is never used). What a key means is not known here; that is `definition`.
Refused: tags beyond the core ones, duplicate keys, keys that are not plain values, more than one document.
Scalars follow https://yaml.org/spec/1.2.2/#103-core-schema: `on`, `yes`, `12:30` are text, `010` is ten. Merge keys
(`<<`), which YAML 1.2 no longer has but people use, are taken under the same budget.
"""

from __future__ import annotations

import re
from typing import Any

from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from pipeline.mistakes import MOST, Mistake, WrongDefinition

MAX_BYTES = 128 * 1024
MAX_DEPTH = 40
MAX_ALIASES = 100
MAX_NODES = 30_000  # keys and values, aliases counted as often as they are used

_CORE = "tag:yaml.org,2002:"
_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ODD_FLOATS = {f"{sign}.{word}" for sign in ("", "-", "+") for word in ("inf", "Inf", "INF")} | {".nan", ".NaN", ".NAN"}
_NUMBER_STARTS = frozenset("0123456789+-.")
_LONGEST_NUMBER = 400  # digits; Python refuses to convert a few thousand
_ODD_BREAKS = re.compile("[\x85\u2028\u2029]")  # line breaks in YAML 1.1 only: positions would differ


class Integer(int):
    """A whole number that knows how it was written."""

    raw: str


class Float(float):
    """A number that knows how it was written: `3.10` is not `3.1`."""

    raw: str


Place = tuple[int, int, int, int]  # line and column of the key, line and column of the value; all from 0


class Mapping(dict[str, Any]):
    """A mapping; `places` says where each key and value stands, `at` where it begins itself.

    `files` names the file of a key that was taken in from another one.
    """

    __slots__ = ("at", "file", "files", "places")

    def __init__(self, file: str, at: tuple[int, int]) -> None:
        super().__init__()
        self.file = file
        self.at = at
        self.places: dict[str, Place] = {}
        self.files: dict[str, str] = {}


class Sequence(list[Any]):
    """A list; `places` says where each item stands."""

    __slots__ = ("at", "file", "places")

    def __init__(self, file: str, at: tuple[int, int]) -> None:
        super().__init__()
        self.file = file
        self.at = at
        self.places: list[Place] = []


class _Refused(Exception):
    """Ends the reading of a file at once."""

    def __init__(self, message: str, mark: Any, hint: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.hint = hint


def scalar(text: str) -> Any:
    """Resolve a plain scalar by the core schema."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    value: Integer | Float
    if _INTEGER.fullmatch(text):
        value = Integer(int(text, 0 if text[:2] in ("0x", "0o") else 10))
    elif _FLOAT.fullmatch(text):
        value = Float(text)
    elif text in _ODD_FLOATS:
        value = Float(text.lower().replace(".", ""))
    else:
        return text
    value.raw = text
    return value


def parse(data: bytes | str, file: str, *, max_nodes: int = MAX_NODES) -> Any:
    """Read one YAML document into values with positions. Raises WrongDefinition with all that is wrong in it."""
    text = _text(data, file)
    if odd := _ODD_BREAKS.search(text):
        raise _at_offset(text, odd.start(), file, "this character is a line break in some YAML readers only")
    composer = _Composer(text, file, max_nodes)
    try:
        value = composer.document()
    except _Refused as refused:
        line, column = (refused.mark.line, refused.mark.column) if refused.mark else (0, 0)
        composer.wrong.append(Mistake(file, line + 1, column + 1, str(refused), refused.hint))
    except YAMLError as error:
        composer.wrong.append(_syntax(error, text, file))
    except (ValueError, RecursionError) as error:  # no known input gets here; a file must never end the process
        composer.wrong.append(Mistake(file, 1, 1, f"can not be read: {error}"))
    if composer.wrong:
        raise WrongDefinition(composer.wrong, {file: text})
    return value


def _text(data: bytes | str, file: str) -> str:
    size = len(data)
    if size > MAX_BYTES:
        hint = "split it with `include`"
        raise WrongDefinition([Mistake(file, 1, 1, f"the file has {size} bytes, {MAX_BYTES} are allowed", hint)], {})
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise WrongDefinition([Mistake(file, line, column, "the file is not UTF-8", "save it as UTF-8")], {}) from None


def _at_offset(text: str, offset: int, file: str, message: str) -> WrongDefinition:
    before = text[:offset].splitlines() or [""]
    mistake = Mistake(file, len(before), len(before[-1]) + 1, message, "write it as an escape in double quotes")
    return WrongDefinition([mistake], {file: text})


def _syntax(error: YAMLError, text: str, file: str) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    if mark is None:  # the reader's errors know only an offset
        position = getattr(error, "position", 0) or 0
        before = text[:position]
        return Mistake(file, before.count("\n") + 1, len(before) - before.rfind("\n"), f"not YAML: {problem}")
    hint = _SYNTAX_HINTS.get(problem, "")
    if context := getattr(error, "context", None):
        problem = f"{problem} ({context})"
    line = text.splitlines()[mark.line : mark.line + 1]
    if line and "\t" in line[0][: mark.column + 1]:
        hint = "YAML is indented with spaces, not with tabs"
    return Mistake(file, mark.line + 1, mark.column + 1, f"not YAML: {problem}", hint)


_SYNTAX_HINTS = {
    "mapping values are not allowed in this context": "a text with `: ` in it needs quotes; else it is the indentation",
    "found character that cannot start any token": "a text that begins with %, @, ` or a tab needs quotes",
    "did not find expected key": "look at the indentation and for an unclosed quote above",
    "could not find expected ':'": "a key is followed by a colon and a space",
    "found undefined alias": "a text that begins with * needs quotes; else the anchor must stand before it",
}


def _events(text: str) -> Any:
    try:
        from yaml.cyaml import CParser  # type: ignore[attr-defined]

        return CParser(text)
    except ImportError:  # PyYAML without libyaml: slower, the same events
        from yaml.loader import SafeLoader

        return SafeLoader(text)


class _Composer:
    """Turns events into values; recursion is bounded by MAX_DEPTH, work by MAX_NODES."""

    def __init__(self, text: str, file: str, max_nodes: int) -> None:
        self.parser = _events(text)
        self.next = self.parser.get_event
        self.file = file
        self.left = max_nodes
        self.aliases = 0
        self.depth = 0
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # value and what it counts; None while it is open
        self.wrong: list[Mistake] = []

    def document(self) -> Any:
        self.next()  # stream start
        event = self.next()
        if isinstance(event, StreamEndEvent):
            raise _Refused("the file is empty", None, "`pipe init` writes a first one")
        value = self.value(self.next())
        end = self.next()
        if not isinstance(end, DocumentEndEvent) or not isinstance(after := self.next(), StreamEndEvent):
            raise _Refused("a second document begins here", after.start_mark, "a file holds one document")
        return value

    def value(self, event: Event) -> Any:
        before = self.left
        self.count(event)
        if type(event) is AliasEvent:
            return self.alias(event)
        anchor = event.anchor  # type: ignore[attr-defined]
        if anchor is not None:
            self.anchors[anchor] = None
        if type(event) is ScalarEvent:
            value = self.scalar(event)
        elif type(event) is MappingStartEvent:
            value = self.mapping(event)
        else:
            value = self.sequence(event)  # type: ignore[arg-type]
        if anchor is not None:
            self.anchors[anchor] = (value, before - self.left)
        return value

    def count(self, event: Any, nodes: int = 1) -> None:
        self.left -= nodes
        if self.left < 0:
            raise _Refused("the file has too many values", event.start_mark, "aliases count as often as they are used")

    def alias(self, event: AliasEvent) -> Any:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise _Refused(f"more than {MAX_ALIASES} aliases", event.start_mark)
        if event.anchor not in self.anchors:
            raise _Refused(f"there is no anchor `{event.anchor}` above", event.start_mark, "a text with * needs quotes")
        found = self.anchors[event.anchor]
        if found is None:
            raise _Refused(f"the alias `*{event.anchor}` stands inside its own anchor", event.start_mark)
        self.count(event, found[1])
        return found[0]

    def scalar(self, event: ScalarEvent) -> Any:
        tag = event.tag
        if tag is None:
            return scalar(event.value) if event.implicit[0] else event.value
        if tag == _CORE + "str":
            return event.value
        kind = {"int": Integer, "float": Float, "bool": bool, "null": type(None)}.get(tag.removeprefix(_CORE))
        value = scalar(event.value)
        if kind is Float and isinstance(value, Integer):
            value, raw = Float(value), value.raw
            value.raw = raw
        if kind is None or not isinstance(value, kind):
            self.tag(event)
        return value

    def tag(self, event: Any) -> None:
        shown = event.tag.replace(_CORE, "!!")
        hint = "a text that begins with ! needs quotes"
        raise _Refused(f"the tag `{shown[:80]}` is not allowed", event.start_mark, hint)

    def enter(self, event: MappingStartEvent | SequenceStartEvent, tag: str) -> tuple[int, int]:
        if event.tag is not None and event.tag != tag:
            self.tag(event)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        mark: Any = event.start_mark
        return mark.line, mark.column

    def sequence(self, event: SequenceStartEvent) -> Sequence:
        result = Sequence(self.file, self.enter(event, _CORE + "seq"))
        while type(item := self.next()) is not SequenceEndEvent:
            mark: Any = item.start_mark
            place = (mark.line, mark.column)
            result.append(self.value(item))
            result.places.append(place + place)
        self.depth -= 1
        return result

    def mapping(self, event: MappingStartEvent) -> Mapping:
        result = Mapping(self.file, self.enter(event, _CORE + "map"))
        merged: list[Mapping] = []
        while type(key := self.next()) is not MappingEndEvent:
            name = self.key(key)
            item = self.next()
            k: Any = key.start_mark
            v: Any = item.start_mark
            value = self.value(item)
            if name == "<<" and key.implicit[0]:
                merged += self.merge(value, item)
                continue
            if name in result:
                first = result.places[name][0] + 1
                self.twice(name, k, first)
            result[name] = value
            result.places[name] = (k.line, k.column, v.line, v.column)
        for other in merged:
            for name, value in other.items():
                if name not in result:
                    result[name] = value
                    result.places[name] = other.places[name]
        self.depth -= 1
        return result

    def twice(self, name: str, mark: Any, first: int) -> None:
        if len(self.wrong) >= MOST:
            return
        message = f"the key `{name[:80]}` stands here twice"
        self.wrong.append(
            Mistake(self.file, mark.line + 1, mark.column + 1, message, f"first in line {first}", len(name))
        )

    def key(self, event: Event) -> str:
        self.count(event)
        if type(event) is AliasEvent:
            raise _Refused("an alias can not be a key", event.start_mark)
        if type(event) is not ScalarEvent or event.anchor is not None:
            raise _Refused("a key is a plain text here", event.start_mark, "lists and mappings can not be keys")
        if event.tag not in (None, _CORE + "str"):
            self.tag(event)
        if not event.value and event.implicit[0]:
            raise _Refused("a key is missing before the colon", event.start_mark)
        return str(event.value)

    def merge(self, value: Any, event: Event) -> list[Mapping]:
        found = value if isinstance(value, Sequence) else [value]
        if not all(isinstance(m, Mapping) for m in found):
            raise _Refused("`<<` takes in a mapping, or a list of mappings", event.start_mark)
        return list(found)
