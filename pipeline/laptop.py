"""Secrets on a laptop: `secrets.env` beside the definition, a file that was named, or PIPE_SECRET_<NAME>.

For local runs only; a server keeps its own, encrypted. Values are returned, never stored or shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.errors import DefinitionError, NotFound
from pipeline.settings import secret_variables

FILE = "secrets.env"


def secrets(names: Iterable[str], *, folder: Path, named: Path | None = None) -> dict[str, str]:
    """Return the values of the named secrets: the environment first, then the named file, then `secrets.env`.

    Raises NotFound naming every one that is missing, and DefinitionError for a file that can not be read.
    """
    known = {**read(folder / FILE, optional=True), **(read(named) if named else {}), **secret_variables()}
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotFound(
            f"{'secret' if len(missing) == 1 else 'secrets'} {', '.join(missing)} not found",
            hint=f"on this machine: add {missing[0]}=… to {folder / FILE} (and that file to .gitignore),"
            f" or set PIPE_SECRET_{missing[0]}",
        )
    return {name: known[name] for name in wanted}


def read(path: Path, *, optional: bool = False) -> Mapping[str, str]:
    """Read lines `NAME=value`; a value in quotes may hold `\\n` for a new line. Raises DefinitionError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if optional:
            return {}
        raise DefinitionError(f"{path}: there is no such file of secrets") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: can not be read: {error}") from error
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.strip().removeprefix("export ").strip()
        if not equals or not name.isidentifier():
            raise DefinitionError(f"{path}:{number}:1: a line is NAME=value", hint="comments begin with #")
        values[name] = _unquoted(value.strip())
    return values


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    return value
