"""Measure work in seconds of an idle machine, so that bounds hold while other tests make this one slow."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

_LOOP = 100_000
_LOOP_SECONDS = 0.0045  # what the loop takes where an idle Python starts in 9 ms


def _loop() -> float:
    start = time.process_time()
    total = 0
    for number in range(_LOOP):
        total += number * number % 7
    assert total
    return time.process_time() - start


def slowness() -> float:
    """Return how many times slower than idle this machine is now; at least 1."""
    return max(1.0, _loop() / _LOOP_SECONDS)


def spent(work: Callable[[], object], tries: int = 3) -> float:
    """Return the CPU seconds of the best try, divided by how much slower than idle the machine is at that moment."""
    best = float("inf")
    gc.collect()
    gc.freeze()  # what other tests left behind is not searched again and again on our account
    try:
        for _ in range(tries):
            before = slowness()
            start = time.process_time()
            work()
            taken = time.process_time() - start
            best = min(best, taken / max(before, slowness()))
    finally:
        gc.unfreeze()
    return best
