"""What a person reads of a promotion while it goes on: lines in the log of the stage that asked for it.

A promotion without a stage (a rollback, or one asked for by hand) tells whoever listens in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline import logs, runs
from pipeline.masking import Masker

if TYPE_CHECKING:
    from pipeline.promotions import Promotion
    from runners.hands import Hands


class Teller:
    """Says what happens, with how long it took."""

    def __init__(self, say: Callable[[str], None], feed: Callable[[bytes], None]) -> None:
        self.say = say
        self.feed = feed

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Say what was done and how long it took, once it is done."""
        began = time.monotonic()
        yield
        self.say(f"{what} ({time.monotonic() - began:.1f} s)")


@contextmanager
def teller(hands: Hands, made: Promotion, secrets: Iterable[str]) -> Iterator[Teller]:
    """Open the log of the stage's last attempt behind what is stored, with the environment's secrets masked."""
    attempts = runs.attempts(hands.db, made.stage_id) if made.stage_id is not None else []
    if not attempts:
        yield Teller(lambda text: None, lambda data: None)
        return
    log = logs.open_log(hands.settings, attempts[-1].id, Masker(secrets))
    try:
        yield Teller(log.say, lambda data: log.feed("out", data))
    finally:
        log.close()
