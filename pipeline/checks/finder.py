"""A definition under check, and where the checks put what they find."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.definition import Definition, Stage
from pipeline.mistakes import Mistake
from pipeline.positions import Path, Positions


class Finder:
    """A definition under check. `broken` names stages that have other mistakes and are not part of it."""

    def __init__(
        self, definition: Definition, positions: Positions, texts: dict[str, str], broken: frozenset[str] = frozenset()
    ) -> None:
        self.definition = definition
        self.positions = positions
        self.texts = texts
        self.broken = broken
        self.found: list[Mistake] = []
        self._upstream: dict[str, frozenset[str]] = {}

    def wrong(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Add a mistake at `path`."""
        self.found.append(self.positions.mistake(path, message, hint, key=key))

    def wrong_inside(self, path: Path, fragment: str, message: str, hint: str = "") -> None:
        """Add a mistake where `fragment` stands inside the text at `path`."""
        place = self.positions.inside(path, self.texts, fragment)
        self.found.append(Mistake(place.file, place.line, place.column, message, hint, place.length))

    def known(self, name: str) -> bool:
        """Tell whether there is a stage of that name, right or wrong."""
        return name in self.definition.stages or name in self.broken

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Yield the stages that are right by themselves."""
        yield from self.definition.stages.items()

    def upstream(self, name: str) -> frozenset[str]:
        """Return all stages that come before `name`, through any number of needs."""
        if name not in self._upstream:
            seen: set[str] = set()
            todo = [name]
            while todo:
                stage = self.definition.stages.get(todo.pop())
                fresh = {need.stage for need in (stage.needs if stage else None) or ()} - seen
                seen |= fresh
                todo += fresh
            self._upstream[name] = frozenset(seen)
        return self._upstream[name]
