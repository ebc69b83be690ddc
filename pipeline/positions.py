"""Where a value stands in its file, by its path in the definition. Made from what `yamltree` kept."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.mistakes import Mistake
from pipeline.yamltree import Mapping, Sequence

Path = tuple[str | int, ...]


class Position(NamedTuple):
    """A place in a file; line and column from 1, `length` of what stands there."""

    file: str
    line: int
    column: int
    length: int = 1


class Positions:
    """Positions of everything in one definition, included files too."""

    def __init__(self, tree: Any, file: str) -> None:
        self.tree = tree
        self.file = file

    def at(self, path: Path, *, key: bool = False) -> Position:
        """Return where the value at `path` stands, or its key, or the nearest thing above that is written."""
        node, place = self.tree, Position(self.file, 1, 1)
        if isinstance(node, Mapping | Sequence):
            place = Position(node.file, node.at[0] + 1, node.at[1] + 1)
        for index, part in enumerate(path):
            last = index == len(path) - 1
            if isinstance(node, Mapping) and part in node:
                file = node.files.get(part, node.file) if node.files else node.file  # type: ignore[arg-type]
                key_line, key_column, line, column = node.places[part]  # type: ignore[index]
                node = node[part]  # type: ignore[index]
                if (key and last) or (isinstance(node, Mapping) and line != key_line):
                    place = Position(file, key_line + 1, key_column + 1, len(str(part)))
                else:
                    place = Position(file, line + 1, column + 1, _length(node))
            elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node):
                line, column = node.places[part][:2]
                node, file = node[part], node.file
                place = Position(file, line + 1, column + 1, _length(node))
        return place

    def value(self, path: Path) -> Any:
        """Return the value as it was read at `path`, or None."""
        node = self.tree
        for part in path:
            if isinstance(node, Mapping) and part in node:
                node = node[part]  # type: ignore[index]
            elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                return None
        return node

    def mistake(self, path: Path, message: str, hint: str = "", *, key: bool = False, rule: str = "") -> Mistake:
        """Return a finding at `path`."""
        file, line, column, length = self.at(path, key=key)
        return Mistake(file, line, column, message, hint, length, rule)

    def inside(self, path: Path, texts: dict[str, str], fragment: str) -> Position:
        """Return where `fragment` stands inside the text at `path`, which may go over several lines."""
        place = self.at(path)
        lines = texts.get(place.file, "").splitlines()
        fragment = fragment.partition("\n")[0]
        for number in range(place.line - 1, min(len(lines), place.line + 400)):
            column = lines[number].find(fragment, place.column - 1 if number == place.line - 1 else 0)
            if column >= 0:
                return Position(place.file, number + 1, column + 1, len(fragment))
        return place

    def within(self, path: Path, texts: dict[str, str], text: str, offset: int) -> Position:
        """Return where the character at `offset` of the text at `path` stands, however the text is folded."""
        place = self.at(path)
        source = texts.get(place.file, "").splitlines()[place.line - 1 :]
        if not source:
            return place
        source[0] = " " * (place.column - 1) + source[0][place.column - 1 :]
        wanted = len("".join(text[:offset].split()))  # folding changes white space only
        found = "".join("".join(line.split()) for line in source[:200]).find("".join(text.split()))
        for number, line in enumerate(source[:200] if found >= 0 else ()):
            for column, character in enumerate(line):
                if not character.isspace():
                    if found + wanted == 0:
                        return Position(place.file, place.line + number, column + 1)
                    found -= 1
        return place


def _length(node: Any) -> int:
    if isinstance(node, str):
        return max(1, len(node)) if "\n" not in node else 1
    raw = getattr(node, "raw", None)
    return len(raw) if raw else 1
