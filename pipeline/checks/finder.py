"""A definition under check, and where the checks put what they find."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from pipeline.definition import Definition, Stage
from pipeline.mistakes import MOST, Mistake
from pipeline.positions import Path, Positions


class Enough(Exception):
    """So much is wrong already that nobody would read more."""


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
        self._before: tuple[dict[str, int], dict[str, int]] | None = None

    def wrong(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Add a mistake at `path`."""
        self.add(self.positions.mistake(path, message, hint, key=key))

    def wrong_inside(self, path: Path, fragment: str, message: str, hint: str = "") -> None:
        """Add a mistake where `fragment` stands inside the text at `path`."""
        place = self.positions.inside(path, self.texts, fragment)
        self.add(Mistake(place.file, place.line, place.column, message, hint, place.length))

    def add(self, mistake: Mistake) -> None:
        """Add a mistake. Raises Enough after very many, so that a hostile file costs little."""
        self.found.append(mistake)
        if len(self.found) >= MOST:
            raise Enough

    def known(self, name: str) -> bool:
        """Tell whether there is a stage of that name, right or wrong."""
        return name in self.definition.stages or name in self.broken

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Yield the stages that are right by themselves."""
        yield from self.definition.stages.items()

    def comes_before(self, other: str, name: str) -> bool:
        """Tell whether `name` needs `other`, directly or through other stages."""
        places, before = self._order()
        return other in places and bool(before.get(name, 0) >> places[other] & 1)

    def upstream(self, name: str) -> set[str]:
        """Return all stages that come before `name`, through any number of needs."""
        places, before = self._order()
        found = before.get(name, 0)
        return {other for other, place in places.items() if found >> place & 1}

    def _order(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return a number for every name, and per stage the numbers of all that come before it, as bits.

        Bits, because a file of a thousand stages may have a million pairs. Circles end when nothing is added.
        """
        if self._before is None:
            names = {need.stage for _, stage in self.stages() for need in stage.needs or ()}
            places = {
                name: place for place, name in enumerate(dict.fromkeys([*self.definition.stages, *sorted(names)]))
            }
            direct = {name: [need.stage for need in stage.needs or ()] for name, stage in self.stages()}
            before = dict.fromkeys(direct, 0)
            todo = deque(direct)
            needed_by: dict[str, list[str]] = {}
            for name, needs in direct.items():
                for need in needs:
                    needed_by.setdefault(need, []).append(name)
            waiting = set(todo)
            while todo:
                name = todo.popleft()
                waiting.discard(name)
                bits = before[name]
                for need in direct[name]:
                    bits |= before.get(need, 0) | 1 << places[need]
                if bits != before[name]:
                    before[name] = bits
                    fresh = [other for other in needed_by.get(name, ()) if other not in waiting]
                    waiting.update(fresh)
                    todo.extend(fresh)
            self._before = (places, before)
        return self._before
