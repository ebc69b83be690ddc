"""Keep our own images and build cache within a budget: what was unused the longest goes first.

Ours are images with this installation's label, and entries of the builder's cache that belong to
instructions of our builds or to our cache mounts. What others made is neither counted nor touched. What must
stay is the caller's to say: what is live or warm somewhere, and the releases before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import builds, environments, promotions, runs
from pipeline.model import PromotionStatus
from runners import images
from runners.image_store import CacheEntry, ImageStore, Stored

if TYPE_CHECKING:
    from pipeline.db import Database
    from runners.engines import Engine

_SERVED = (PromotionStatus.LIVE, PromotionStatus.REPLACED, PromotionStatus.ROLLED_BACK)
_RELEASES = 5  # of each environment, the newest first
_MOST_ENTRIES = 500  # of the build cache that go in one pass
_TURNS = 3
_WORTH_BYTES = 64 << 10  # smaller entries win nothing
_SLACK_SECONDS = 3.0


@dataclass
class Trimmed:
    """What a pass did."""

    before_bytes: int = 0
    after_bytes: int = 0
    images: list[str] = field(default_factory=list)
    cache_entries: int = 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    used_at: float
    image: Stored | None = None
    entry: CacheEntry | None = None


def trim(
    store: ImageStore, db: Database, *, budget_bytes: int, keep: Callable[[str], bool], dry_run: bool = False
) -> Trimmed:
    """Remove our longest unused images and cache entries until the rest is within the budget.

    `keep` is given an image id and says whether it must stay; images of any container stay as well.
    With `dry_run` it only tells what would go.
    """
    done = Trimmed()
    for turn in range(_TURNS):  # a layer that an image leaves may still be the cache's, and is met again there
        removed = len(done.images), done.cache_entries
        total = _turn(store, db, budget_bytes, keep, dry_run, done)
        done.before_bytes = done.before_bytes if turn else total
        if dry_run or (len(done.images), done.cache_entries) == removed:
            break
    return done


def _turn(
    store: ImageStore, db: Database, budget_bytes: int, keep: Callable[[str], bool], dry_run: bool, done: Trimmed
) -> int:
    """Measure what is there, remove what is too much, and return what was measured."""
    ours = store.listing({images.INSTALLATION: db.installation})
    weight = _Weight(store, ours)
    known = _Known(builds.steps(db), db.installation)
    entries = [entry for entry in store.cache_entries() if entry.size_bytes >= _WORTH_BYTES and known.made(entry)]
    total = done.after_bytes = weight.total + sum(entry.size_bytes for entry in entries)
    for candidate in _candidates(store, db, ours, entries, keep):
        if done.after_bytes <= budget_bytes:
            break
        if candidate.image:
            done.after_bytes -= _drop_image(store, db, candidate.image, weight, done, dry_run)
        elif candidate.entry and done.cache_entries < _MOST_ENTRIES:
            won = candidate.entry.size_bytes if dry_run else store.remove_cache_entry(candidate.entry.id)
            done.cache_entries += won > 0
            done.after_bytes -= won
    return total


def _candidates(
    store: ImageStore, db: Database, ours: list[Stored], entries: list[CacheEntry], keep: Callable[[str], bool]
) -> list[_Candidate]:
    """Return what may go, the longest unused first."""
    used = {image: last for image, last, _ in builds.images(db)}
    busy = store.in_use()
    free = [image for image in ours if image.id not in busy and not keep(image.id)]
    found = [_Candidate(used.get(image.id, image.created_at), image=image) for image in free]
    found += [_Candidate(entry.used_at, entry=entry) for entry in entries if not entry.in_use]
    return sorted(found, key=lambda candidate: candidate.used_at)


def must_stay(db: Database, engine: Engine) -> set[str]:
    """Return the ids of the images that runs under way need, and each environment's promotions and last releases."""
    references: set[str] = set()
    for standing in environments.listing(db):
        made = promotions.listing(db, environment_id=standing.id)
        served = [one for one in made if one.status in _SERVED][:_RELEASES]
        for one in [*served, *(one for one in made if not one.status.final)]:
            references.update(str(image) for image in (one.release.get("images") or {}).values())
    for run in runs.unfinished(db):
        references.update(stage.image.reference for stage in runs.stages(db, run.id) if stage.image)
    return {image for reference in references if (image := engine.image_id(reference))}


def _drop_image(store: ImageStore, db: Database, image: Stored, weight: _Weight, done: Trimmed, dry_run: bool) -> int:
    """Take our names from an image; with the last name it goes. One that somebody else named stays."""
    mine = [name for name in image.names if is_our_name(name, db.installation)]
    if len(mine) < len(image.names):
        return 0
    if not dry_run:
        if not all(store.remove(name) for name in mine or [image.id]):
            return 0
        builds.forget(db, image.id)
    done.images.append(image.id)
    return weight.without(image)


def is_our_name(name: str, installation: str) -> bool:
    """Tell whether a name of an image was given by us: by a build, or by a push under its content's tag."""
    repository, _, tag = name.rpartition(":")
    return repository.startswith(f"pipewright/{installation[:8]}/") or tag.startswith("pipe-")


class _Weight:
    """How much room images take together, each layer counted once, and none that others' images hold as well."""

    def __init__(self, store: ImageStore, ours: Iterable[Stored]) -> None:
        mine = {image.id for image in ours}
        foreign = [image.id for image in store.listing({}) if image.id not in mine]
        theirs = {layer for image in foreign for layer, _ in _layers(store.history(image))}
        self._layers = {
            image: [(layer, size) for layer, size in _layers(store.history(image)) if layer not in theirs]
            for image in mine
        }
        self._holders: dict[str, int] = {}
        self.total = 0
        for layers in self._layers.values():
            for layer, size in layers:
                self.total += 0 if layer in self._holders else size
                self._holders[layer] = self._holders.get(layer, 0) + 1

    def without(self, image: Stored) -> int:
        """Return how much its removal wins."""
        won = 0
        for layer, size in self._layers.pop(image.id, []):
            self._holders[layer] -= 1
            won += size if self._holders[layer] == 0 else 0
        return won


def _layers(history: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return a key and a size for each layer of a history; images that share a layer share all that is below it."""
    chain = hashlib.sha256()
    found = []
    for entry in reversed(history):
        chain.update(f"{entry.get('Created')}\0{entry.get('CreatedBy')}\0{entry.get('Size')}\n".encode())
        if entry.get("Size"):
            found.append((chain.hexdigest(), int(entry["Size"])))
    return found


class _Known:
    """Which entries of the builder's cache come from builds of ours, which it does not say by itself.

    An entry is ours when an instruction of its text was carried out by us while the entry was made, and was the last
    to use it. Our cache mounts carry our name.
    """

    def __init__(self, steps: Iterable[Mapping[str, Any]], installation: str) -> None:
        self._installation = installation[:8]
        self._times: dict[str, list[tuple[float, float]]] = {}
        for step in (one for one in steps if one.get("started") and one.get("finished")):  # others were never timed
            window = (float(step["started"]) - _SLACK_SECONDS, float(step["finished"]) + _SLACK_SECONDS)
            self._times.setdefault(_run(str(step["text"])), []).append(window)

    def made(self, entry: CacheEntry) -> bool:
        """Tell whether an entry is ours."""
        text = entry.description
        if "cached mount" in text:
            return f'with id "{self._installation}-' in text
        if text.startswith("mount / from exec "):
            text = text.removeprefix("mount / from exec ").removeprefix("/bin/sh -c ")
        elif text.startswith("["):
            text = text.partition("] ")[2]
        else:
            return False
        windows = self._times.get(text, ())
        return all(any(begin <= at <= end for begin, end in windows) for at in (entry.created_at, entry.used_at))


def _run(instruction: str) -> str:
    """Return what a RUN runs, without its options; another instruction as it is."""
    verb, _, rest = instruction.partition(" ")
    if verb != "RUN":
        return instruction
    while rest.startswith("--"):
        rest = rest.partition(" ")[2].lstrip()
    return rest
