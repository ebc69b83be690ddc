"""Take the stages of other local files into a definition, with their typed inputs filled in.

Works on value trees, before the models: an included stage keeps the positions of its own file, and the
saved definition holds the stages themselves, so that it can be loaded again without the files.
Included files do not include others: one step is enough to follow.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import files, yamltree
from pipeline.checks.values import taken
from pipeline.definition import Include, Part
from pipeline.errors import DefinitionError
from pipeline.expressions import as_text, bind_inputs
from pipeline.inputs import settle
from pipeline.mistakes import Mistake, WrongDefinition
from pipeline.occasions import Input
from pipeline.positions import Positions
from pipeline.wording import worded
from pipeline.yamltree import Mapping, Sequence

MAX_FILES = 20


class Taker:
    """Takes included files in; what is wrong is collected in `wrong`, what was read in `texts`."""

    def __init__(self, root: Path, tree: Mapping, positions: Positions) -> None:
        self.root = root
        self.tree = tree
        self.positions = positions
        self.wrong: list[Mistake] = []
        self.texts: dict[str, str] = {}
        self.left = yamltree.MAX_NODES
        self.whole = True  # every entry could be taken in

    def take(self) -> None:
        """Put the stages of every included file before the definition's own, and drop `include`."""
        entries = self.tree.get("include")
        own = self.tree.get("stages")
        if entries is None or not (own is None or isinstance(own, Mapping)):
            return
        listed = entries if isinstance(entries, Sequence) else [entries]
        if len(listed) > MAX_FILES:
            self.wrong.append(self.positions.mistake(("include",), f"more than {MAX_FILES} included files"))
            return
        stages = Mapping(self.tree.file, own.at if own is not None else self.tree.at)
        for index, entry in enumerate(listed):
            path = ("include", index) if isinstance(entries, Sequence) else ("include",)
            self._one(entry, path, stages)
        for name, stage in (own or {}).items():
            self._add(stages, name, stage, own)  # type: ignore[arg-type]
        place = self.tree.places.get("stages", self.tree.places["include"])
        self.tree["stages"], self.tree.places["stages"] = stages, place
        if self.whole and not self.wrong:
            del self.tree["include"], self.tree.places["include"]

    def _one(self, entry: Any, path: tuple[str | int, ...], stages: Mapping) -> None:
        try:
            include = Include.model_validate({"file": entry} if isinstance(entry, str) else entry)
        except ValidationError:
            self.whole = False  # what is wrong with it is told, with everything else, by the definition's models
            return
        try:
            part, tree = self._read(include.file, path)
        except WrongDefinition as error:
            self.wrong += error.mistakes
            return
        except DefinitionError as error:
            self.wrong.append(self.positions.mistake(path, error.message, error.hint))
            return
        written = entry.get("inputs") if isinstance(entry, Mapping) else None
        for asked in part.inputs:
            if taken(asked.upper().replace("-", "_")):
                hint = "programs and shells obey that variable; choose another name"
                positions = Positions(tree, include.file)
                message = f"`{asked}` can not be an input"
                self.wrong.append(positions.mistake(("inputs", asked), message, hint, key=True))
        values = self._inputs(part.inputs, written or {}, path)  # as written: 3.10 is not 3.1
        for name, stage in tree["stages"].items():
            if isinstance(stage, Mapping):
                self._add(stages, name, _bound(stage, values), tree["stages"])

    def _read(self, name: str, path: tuple[str | int, ...]) -> tuple[Part, Any]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DefinitionError(f"`{name[:80]}` leads out of the repository", hint="name a file inside it")
        if name in self.texts:
            raise DefinitionError(f"`{name[:80]}` is included twice", hint="include it once")
        data = files.read(self.root / name, name, self.root)
        self.texts[name] = data.decode("utf-8-sig", "replace")
        tree = yamltree.parse(data, name, max_nodes=self.left)
        self.left -= _nodes(tree)
        positions = Positions(tree, name)
        try:
            return Part.model_validate(tree), tree
        except ValidationError as error:
            raise WrongDefinition(worded(error, Part, positions), self.texts) from None

    def _add(self, stages: Mapping, name: str, stage: Any, source: Mapping) -> None:
        if name in stages:
            first = stages.files[name]
            hint = "stage names are unique over all files"
            line, column = source.places[name][:2]
            message = f"the stage `{name[:80]}` is also in {first}"
            self.wrong.append(Mistake(source.file, line + 1, column + 1, message, hint, len(name)))
            return
        stages[name] = stage
        stages.places[name] = source.places[name]
        stages.files[name] = source.file

    def _inputs(
        self, asked: AnyMapping[str, Input], given: AnyMapping[str, Any], path: tuple[str | int, ...]
    ) -> dict[str, Any]:
        values, flaws = settle(asked, given)
        for name, message, hint in flaws:
            place = (*path, "inputs", name) if name in given else path
            self.wrong.append(self.positions.mistake(place, message, hint, key=name not in asked))
        return values


def _bound(stage: Mapping, values: AnyMapping[str, Any]) -> Mapping:
    """Fill the inputs in, keep the positions, and let commands see the inputs as variables too."""
    filled: Mapping = _like(stage, bind_inputs(stage, values))
    env = filled.get("env")
    if env is None:
        env = Mapping(stage.file, stage.at)
        filled["env"], filled.places["env"] = env, (*stage.at, *stage.at)
    if isinstance(env, Mapping):
        for name, value in values.items():
            variable = name.upper().replace("-", "_")
            if variable not in env:
                env[variable], env.places[variable] = as_text(value), (*env.at, *env.at)
    return filled


def _like(before: Any, after: Any) -> Any:
    """Give plain data the positions of the tree that it was made from."""
    if isinstance(before, Mapping):
        result = Mapping(before.file, before.at)
        for key, value in after.items():
            result[key] = _like(before[key], value)
        result.places, result.files = dict(before.places), dict(before.files)
        return result
    if isinstance(before, Sequence):
        items = Sequence(before.file, before.at)
        items.extend(_like(old, new) for old, new in zip(before, after, strict=True))
        items.places = list(before.places)
        return items
    return after


def _nodes(tree: Any) -> int:
    if isinstance(tree, Mapping):
        return 1 + sum(1 + _nodes(value) for value in tree.values())
    if isinstance(tree, Sequence):
        return 1 + sum(_nodes(value) for value in tree)
    return 1
