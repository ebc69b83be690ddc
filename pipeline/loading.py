"""Read a definition, or the operator's environments, from a file: values with positions, or all mistakes at once.

File -> YAML under budgets (`yamltree`) -> included files (`includes`) -> models (`definition`) -> meaning (`checks`).
Expanding a definition for one event is `plan`; habits that are bad but not wrong are `lint`.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline import files, yamltree
from pipeline.definition import Definition
from pipeline.mistakes import MOST, Mistake, WrongDefinition
from pipeline.positions import Positions
from pipeline.yamltree import Mapping

if TYPE_CHECKING:
    from pipeline.policy import Environments


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A definition that is right, with its text and where everything in it stands."""

    definition: Definition
    text: str
    path: str  # as a person here would write it
    positions: Positions
    files: AnyMapping[str, str]  # every file that was read, by its shown name, with its text

    def line(self, stage: str) -> int:
        """Return the line in which a stage begins."""
        return self.positions.at(("stages", stage), key=True).line


def load(path: Path | str, *, root: Path | None = None, shown: str = "") -> Loaded:
    """Read the definition at `path`; `include` and symlinks stay inside `root` (default: the file's folder).

    `shown` is how messages call the file. Raises DefinitionError (WrongDefinition with all mistakes).
    """
    path = Path(path)
    shown = shown or str(path)
    top = root or path.parent
    return loads(files.read(path, shown, top), shown, root=top)


def loads(data: bytes | str, shown: str = "pipe.yml", *, root: Path | None = None) -> Loaded:
    """Read a definition from its text; without a `root` nothing can be included. Raises WrongDefinition."""
    tree = yamltree.parse(data, shown)
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    positions = Positions(tree, shown)
    texts = {shown: text}
    wrong: list[Mistake] = []
    if isinstance(tree, Mapping):
        wrong += _take_in(tree, positions, root, texts)
        _add_needs(tree)
    definition, more = _validated(Definition, tree, positions)
    wrong += more
    if len(wrong) < MOST:
        wrong += _meaning(definition, tree, positions, texts, wrong)
    if wrong or definition is None:
        raise WrongDefinition(wrong, texts)
    return Loaded(definition=definition, text=text, path=shown, positions=positions, files=texts)


def restore(data: AnyMapping[str, Any], text: str = "", path: str = "pipe.yml") -> Loaded:
    """Return a definition from its saved data (`as_data`), without reading any file. Lines are unknown then."""
    definition = Definition.model_validate(data)
    return Loaded(definition=definition, text=text, path=path, positions=Positions({}, path), files={path: text})


def load_environments(path: Path | str, *, root: Path | None = None, shown: str = "") -> Environments:
    """Read the operator's `environments.yml`. Raises DefinitionError (WrongDefinition with all mistakes)."""
    from pipeline.checks.environments import environment_mistakes
    from pipeline.policy import Environments

    path = Path(path)
    shown = shown or str(path)
    data = files.read(path, shown, root)
    tree = yamltree.parse(data, shown)
    positions = Positions(tree, shown)
    environments: Environments | None
    environments, wrong = _validated(Environments, tree, positions)
    if environments is not None:
        wrong = environment_mistakes(environments, positions)
    if wrong or environments is None:
        raise WrongDefinition(wrong, {shown: data.decode("utf-8-sig")})
    return environments


def _validated(model: Any, tree: Any, positions: Positions) -> tuple[Any, list[Mistake]]:
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        from pipeline.wording import worded  # only a wrong file pays for it

        return None, worded(error, model, positions)


def _take_in(tree: Mapping, positions: Positions, root: Path | None, texts: dict[str, str]) -> list[Mistake]:
    if "include" not in tree:
        return []
    from pipeline.includes import Taker

    if root is None:
        return [
            positions.mistake(("include",), "nothing can be included here", "there is no repository around", key=True)
        ]
    taker = Taker(root, tree, positions)
    taker.take()
    texts.update(taker.texts)
    return taker.wrong


def _add_needs(tree: Mapping) -> None:
    """Write down what `needs` left out means: the stage before it in its file, as an optional need."""
    stages = tree.get("stages")
    if not isinstance(stages, Mapping):
        return
    before: dict[str, str] = {}  # the last stage of each file
    for name, stage in stages.items():
        file = stages.files.get(name, stages.file)
        if isinstance(stage, Mapping) and "needs" not in stage:
            stage["needs"] = [{"stage": before[file], "optional": True}] if file in before else []
            stage.places["needs"] = (*stage.at, *stage.at)
        before[file] = name


def _meaning(
    definition: Definition | None, tree: Any, positions: Positions, texts: dict[str, str], wrong: list[Mistake]
) -> list[Mistake]:
    """Check what the models can not see; of a file with mistakes, all the stages that are right by themselves."""
    from pipeline.checks import definition_mistakes

    broken: frozenset[str] = frozenset()
    if definition is None:
        from pipeline.salvage import readable_part

        definition, broken = readable_part(tree)
    if definition is None:
        return []
    known = {(m.file, m.line, m.column) for m in wrong}
    found = definition_mistakes(definition, positions, texts, broken)
    return [m for m in found if (m.file, m.line, m.column) not in known]
