"""Decide whether an event starts a run, and whether an item of `when` holds; read cron lines. Pure.

Globs: `*` is any text without `/`, `**` any text, `?` one character, `[a-z]` a set; a pattern that begins
with `!` takes back what patterns before it matched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.definition import Definition
    from pipeline.model import Event


def _tokens(glob: str) -> list[str]:
    """Split a glob into `*`, `**`, `**/`, and regular expressions of one character each."""
    found, index = [], 0
    while index < len(glob):
        if glob[index] == "*":
            stars = 1
            while glob.startswith("*", index + stars):
                stars += 1
            index += stars
            deep = stars > 1 and glob.startswith("/", index) and (index == stars or glob[index - stars - 1] == "/")
            found.append("**/" if deep else "**" if stars > 1 else "*")
            index += deep
        elif glob[index] == "?":
            found.append("[^/]")
            index += 1
        elif glob[index] == "[" and (end := glob.find("]", index + 2)) > 0:
            inside = re.sub(r"([\\\[&|~^])", r"\\\1", glob[index + 1 : end].removeprefix("!"))
            found.append(f"[{'^/' if glob[index + 1] == '!' else ''}{inside}]")
            index = end + 1
        else:
            found.append(re.escape(glob[index]))
            index += 1
    return found


@lru_cache(maxsize=1024)
def _matcher(glob: str) -> Callable[[str], object]:
    """Return a function that matches a glob in time that grows with glob times text, whatever they are."""
    tokens = _tokens(glob)
    try:
        if not any(token.startswith("**") for token in tokens):
            return re.compile(_one_level(tokens)).fullmatch
        if sum(token[0] == "*" for token in tokens) == 1:
            return re.compile("".join(_STARS.get(token, token) for token in tokens), re.DOTALL).fullmatch
        singles = [token if token[0] == "*" else re.compile(token, re.DOTALL) for token in tokens]
    except re.error:  # a set such as [z-a]
        return lambda text: text == glob
    return lambda text: _walks(singles, text)


_STARS = {"*": "[^/]*", "**": ".*", "**/": "(?:.*/)?"}


def _one_level(tokens: list[str]) -> str:
    """Return a regular expression that never looks back: what follows a star is taken where it comes first."""
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == "*":
            parts.append([])
        else:
            parts[-1].append(token)
    first, *others = ["".join(part) for part in parts]
    if not others:
        return first
    return first + "".join(f"(?>[^/]*?{part})" for part in others[:-1]) + f"[^/]*{others[-1]}"


def _walks(tokens: list[str | re.Pattern[str]], text: str) -> bool:
    """Match by walking all ways at once: the set of places in the glob where the text so far can end."""

    def opened(places: set[int]) -> set[int]:
        todo = list(places)
        while todo:
            place = todo.pop()
            if place < len(tokens) and isinstance(tokens[place], str) and place + 1 not in places:
                places.add(place + 1)
                todo.append(place + 1)
        return places

    places = opened({0})
    inside: set[int] = set()  # in the middle of what `**/` takes: only a slash ends it
    for character in text:
        entered = {place for place in places if place < len(tokens) and tokens[place] == "**/"} | inside
        after: set[int] = set()
        for place in places:
            token = tokens[place] if place < len(tokens) else ""
            if isinstance(token, re.Pattern):
                if token.fullmatch(character):
                    after.add(place + 1)
            elif token == "**" or (token == "*" and character != "/"):
                after.add(place)
        if character == "/":
            after |= {place + 1 for place in entered}
        inside = entered
        places = opened(after)
        if not places and not inside:
            return False
    return len(tokens) in places


def globbed(value: str, globs: Iterable[str]) -> bool:
    """Tell whether a value matches a list of globs; the last one that matches decides."""
    found = False
    for glob in globs:
        if glob.startswith("!"):
            found = found and not _matcher(glob[1:])(value)
        elif not found:
            found = bool(_matcher(glob)(value))
    return found


def match(definition: Definition, event: Event) -> tuple[bool, str]:
    """Tell whether an event starts a run of a definition, and why not or why, as a sentence."""
    on = definition.on
    if not on.model_fields_set:
        return True, "the definition has no `on`, so every event starts it"
    if event.kind == "manual":
        return True, "it was started by hand"
    if event.kind == "tag":
        return _tag(on.tag, event.tag)
    if event.kind == "schedule":
        return (True, "its schedule fired") if on.schedule else (False, "`on` has no `schedule`")
    if event.kind == "pull_request":
        wanted = on.pull_request
        if wanted is None and "pull_request" not in on.model_fields_set:
            return False, "`on` has no `pull_request`"
        if wanted is None:
            return True, "every pull request starts it"
        return _branch_and_paths(event, wanted.branches, (), wanted.paths, wanted.paths_ignore)
    if event.kind != "push":
        return False, f"`{event.kind}` is not an event"
    if on.push is None and "push" not in on.model_fields_set:
        return False, "`on` has no `push`"
    if on.push is None:
        return True, "every push starts it"
    return _branch_and_paths(event, on.push.branches, on.push.branches_ignore, on.push.paths, on.push.paths_ignore)


def _tag(globs: Sequence[str] | None, tag: str) -> tuple[bool, str]:
    if globs is None:
        return False, "`on` has no `tag`"
    if globbed(tag, globs):
        return True, f"the tag {tag} matches"
    return False, f"the tag {tag} matches none of {_listed(globs)}"


def _branch_and_paths(
    event: Event, branches: Sequence[str], ignored: Sequence[str], paths: Sequence[str], paths_ignored: Sequence[str]
) -> tuple[bool, str]:
    if branches and not globbed(event.branch, branches):
        return False, f"the branch {event.branch} matches none of {_listed(branches)}"
    if ignored and globbed(event.branch, ignored):
        return False, f"the branch {event.branch} is one of those ignored ({_listed(ignored)})"
    changed = event.paths
    if changed is not None:  # where the changes are not known, a run too many is better than one too few
        if paths and not any(globbed(path, paths) for path in changed):
            return False, f"no changed file matches {_listed(paths)}"
        if paths_ignored and changed and all(globbed(path, paths_ignored) for path in changed):
            return False, f"only files that are ignored changed ({_listed(paths_ignored)})"
    return True, f"the {'pull request' if event.kind == 'pull_request' else 'push'} matches"


def _listed(globs: Sequence[str]) -> str:
    return ", ".join(globs[:6]) + (", …" if len(globs) > 6 else "")


# --- times ----------------------------------------------------------------------------------------------------------

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = dict(zip(_MONTH_NAMES, range(1, 13), strict=True))
_DAYS = dict(zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True))
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))


def cron_flaw(line: str) -> str:
    """Return what is wrong with a cron line of five fields, or an empty string."""
    parts = line.split()
    if len(parts) != 5:
        return f"a cron line has five fields, this one has {len(parts)}"
    for (name, low, high), part in zip(_FIELDS, parts, strict=True):
        words = _MONTHS if name == "month" else _DAYS if name == "day of the week" else {}
        for item in part.split(","):
            if not _cron_item(item, low, high, words):
                return f"`{item[:40]}` can not be the {name} ({low}-{high})"
    return ""


def _cron_item(item: str, low: int, high: int, words: dict[str, int]) -> bool:
    span, slash, step = item.partition("/")
    if slash and not (step.isascii() and step.isdigit() and 0 < int(step[:6]) <= high):
        return False
    if span == "*":
        return True
    ends = [_cron_number(end, words) for end in span.split("-")]
    if len(ends) > 2 or any(end is None or not low <= end <= high for end in ends):
        return False
    return len(ends) == 1 or ends[0] <= ends[1]  # type: ignore[operator]


def _cron_number(text: str, words: dict[str, int]) -> int | None:
    if text.lower() in words:
        return words[text.lower()]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def timezone_flaw(name: str) -> str:
    """Return what is wrong with the name of a time zone, or an empty string."""
    if name == "UTC":
        return ""
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        if not available_timezones():
            return ""  # this machine has no list of time zones; the one that runs the schedule does
        return f"there is no time zone `{name[:60]}`"
    return ""
