"""Cron lines of five fields: which minutes they mean, and when one last came. Pure; telling the time is elsewhere.

Fields as in crontab(5) of Vixie cron: `*`, numbers, names, ranges, lists and steps; 0 and 7 are Sunday, and when
both day fields are limited either of them is enough.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.errors import DefinitionError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {name: n for n, name in enumerate(_DAYS)} | {name: n for n, name in enumerate(_MONTHS, 1)}
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line, read."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0
    either_day: bool  # both day fields are limited

    def means(self, at: datetime.datetime) -> bool:
        """Tell whether the line means the minute of `at`, in the line's own time zone."""
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        right_day = (day or weekday) if self.either_day else (day and weekday)
        return right_day and at.month in self.months and at.hour in self.hours and at.minute in self.minutes


def read(line: str) -> Cron:
    """Read a cron line. Raises DefinitionError."""
    fields = line.lower().split()
    if len(fields) != 5:
        raise DefinitionError(f"`{line}` is no cron line: it has {len(fields)} fields", hint="like `0 17 * * FRI`")
    sets = [_field(text, low, high, line) for text, (low, high) in zip(fields, _BOUNDS, strict=True)]
    weekdays = frozenset(number % 7 for number in sets[4])
    limited = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Cron(sets[0], sets[1], sets[2], sets[3], weekdays, limited)


def last(line: str, *, timezone: str, now: float, within: float) -> float | None:
    """Return when (epoch seconds) the line last came in the `within` seconds before `now`, or None."""
    cron = read(line)
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DefinitionError(f"there is no time zone `{timezone}`", hint="like Europe/Berlin") from error
    minute = int(now // 60) * 60
    while minute > now - within:
        if cron.means(datetime.datetime.fromtimestamp(minute, zone)):
            return float(minute)
        minute -= 60
    return None


def _field(text: str, low: int, high: int, line: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last_ = span.partition("-")
        try:
            begin = low if first == "*" else _number(first)
            end = high if first == "*" or (step and not dash) else _number(last_ or first)
            every = int(step or 1)
        except ValueError:
            begin, end, every = 0, -1, 1
        if not (low <= begin <= end <= high) or every < 1:
            raise DefinitionError(f"`{part}` in the cron line `{line}` is not understood", hint="like `0 17 * * FRI`")
        found.update(range(begin, end + 1, every))
    return frozenset(found)


def _number(text: str) -> int:
    return _NAMES[text] if text in _NAMES else int(text)
