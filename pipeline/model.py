"""The nouns of the engine and their statuses, with the legal moves as data.

Pure values: no effects, no storage, no clock. Times elsewhere are UTC epoch
seconds in columns named `*_at`; lengths are `*_seconds` and `*_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.errors import Conflict


class Status(StrEnum):
    """Where a run or a stage stands. `failed` is the author's news, `errored` is ours or the machine's."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Tell whether nothing more can happen to it."""
        return not MOVES[self]


_ENDS = frozenset({Status.SUCCEEDED, Status.FAILED, Status.ERRORED, Status.CANCELLED})
MOVES: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.WAITING, Status.CANCELLED, Status.SKIPPED, Status.ERRORED}),
    Status.RUNNING: _ENDS | {Status.WAITING, Status.QUEUED},
    Status.WAITING: _ENDS | {Status.RUNNING},
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.ERRORED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.SKIPPED: frozenset(),
}


class PromotionStatus(StrEnum):
    """Where a promotion stands; the steps of the swap are `Phase`, inside `deploying`."""

    REQUESTED = "requested"
    APPROVED = "approved"
    DEPLOYING = "deploying"
    LIVE = "live"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    NEEDS_ATTENTION = "needs_attention"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Tell whether nothing more can happen to it."""
        return not PROMOTION_MOVES[self]


PROMOTION_MOVES: Mapping[PromotionStatus, frozenset[PromotionStatus]] = {
    PromotionStatus.REQUESTED: frozenset(
        {
            PromotionStatus.APPROVED,
            PromotionStatus.REJECTED,
            PromotionStatus.EXPIRED,
            PromotionStatus.SUPERSEDED,
            PromotionStatus.CANCELLED,
        }
    ),
    PromotionStatus.APPROVED: frozenset(
        {PromotionStatus.DEPLOYING, PromotionStatus.SUPERSEDED, PromotionStatus.CANCELLED, PromotionStatus.REQUESTED}
    ),
    PromotionStatus.DEPLOYING: frozenset(
        {
            PromotionStatus.LIVE,
            PromotionStatus.FAILED,
            PromotionStatus.ROLLED_BACK,
            PromotionStatus.NEEDS_ATTENTION,
            PromotionStatus.CANCELLED,
            PromotionStatus.REQUESTED,  # at the gate before the swap, without holding a worker, lock or slot
        }
    ),
    PromotionStatus.LIVE: frozenset(
        {PromotionStatus.REPLACED, PromotionStatus.ROLLED_BACK, PromotionStatus.NEEDS_ATTENTION}
    ),
    PromotionStatus.NEEDS_ATTENTION: frozenset(
        {PromotionStatus.LIVE, PromotionStatus.FAILED, PromotionStatus.ROLLED_BACK, PromotionStatus.CANCELLED}
    ),
    PromotionStatus.REPLACED: frozenset({PromotionStatus.LIVE}),
    PromotionStatus.ROLLED_BACK: frozenset(),
    PromotionStatus.REJECTED: frozenset(),
    PromotionStatus.EXPIRED: frozenset(),
    PromotionStatus.SUPERSEDED: frozenset(),
    PromotionStatus.FAILED: frozenset(),
    PromotionStatus.CANCELLED: frozenset(),
}


class Phase(StrEnum):
    """The steps of the swap, in order; each is an intent committed before its effect."""

    LOCKED = "locked"
    PULLING = "pulling"
    BEFORE_HOOK = "before_hook"
    CREATING = "creating"
    WAITING_READY = "waiting_ready"
    VERIFYING = "verifying"
    GATE = "gate"
    SWITCHING = "switching"
    BAKING = "baking"
    DONE = "done"
    ROLLING_BACK = "rolling_back"


class JobStatus(StrEnum):
    """Where a job stands in the queue. `dead` means its lease was lost too often."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


class Cause(StrEnum):
    """Why an attempt did not succeed; `retry.on` of the language names these."""

    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    REPORT = "report"
    RUNNER_LOST = "runner_lost"
    IMAGE_PULL = "image_pull"
    SERVICE = "service"
    REGISTRY = "registry"
    ERRORED = "errored"
    CANCELLED = "cancelled"


class Colour(StrEnum):
    """One of the two places in which a release can live in an environment."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Colour:
        """Return the opposite colour."""
        return Colour.GREEN if self is Colour.BLUE else Colour.BLUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Why a run exists: what happened in which repository, by whom.

    `repository` is a path or URL; `sha` the full commit id; `ref` a full ref name
    (`refs/heads/main`). `dirty` means the working tree's uncommitted changes are part of it.
    """

    kind: str  # push | pull_request | tag | schedule | manual
    repository: str
    ref: str
    sha: str
    branch: str = ""
    tag: str = ""
    before: str = ""
    message: str = ""
    author: str = ""
    by: str = ""
    inputs: Mapping[str, object] = field(default_factory=dict)
    paths: tuple[str, ...] | None = None  # changed paths; None where they are not known
    dirty: bool = False
    trusted: bool = True
    number: int | None = None  # of the pull request

    @property
    def short_sha(self) -> str:
        """Return the first twelve characters of the commit id."""
        return self.sha[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image is known by its image id, a pushed one by its manifest digest as well."""

    id: str  # sha256:… of the image configuration
    repository: str = ""  # host/name, once pushed
    digest: str = ""  # sha256:… of the manifest, once pushed
    tags: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """Return what an engine can run: `repository@digest` once pushed, else the image id."""
        return f"{self.repository}@{self.digest}" if self.digest else self.id


def check_move(entity: str, old: Status | PromotionStatus, new: Status | PromotionStatus) -> None:
    """Raise Conflict unless `entity` may go from `old` to `new`."""
    moves: Mapping[str, frozenset[str]] = PROMOTION_MOVES if isinstance(old, PromotionStatus) else MOVES  # type: ignore[assignment]
    if new not in moves[old]:
        raise Conflict(f"{entity} is {old} and can not become {new}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One passage of a definition for one event; `id` is also its number."""

    id: int
    pipeline: str
    status: Status
    reason: str
    event: Event
    definition: Mapping[str, object]  # definition.Definition as data
    environments: Mapping[str, object]  # name -> definition.Environment as data
    trusted: bool
    scope: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    cancel_requested_at: float | None
    retry_of: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One stage (one combination of its matrix) of one run."""

    id: int
    run_id: int
    position: int
    name: str
    base: str
    kind: str
    spec: Mapping[str, object]  # definition.Stage as data
    matrix: Mapping[str, str]
    needs: tuple[Mapping[str, object], ...]
    line: int
    status: Status
    cause: str
    reason: str
    allow_failure: bool
    attempts: int
    outputs: Mapping[str, str]
    image: Image | None
    result: Mapping[str, object]
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a stage; each has a log and a container of its own."""

    id: int
    stage_id: int
    number: int
    status: Status
    cause: str
    reason: str
    exit_code: int | None
    worker: str
    container: str
    commands: tuple[Mapping[str, object], ...]
    lines: int
    started_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, as its hands report it."""

    status: Status  # succeeded | failed | errored | cancelled | waiting (a promotion goes on by itself)
    cause: str = ""  # a Cause when not succeeded
    reason: str = ""  # one or two lines for a person: what, where, what to do
    exit_code: int | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    image: Image | None = None
    result: Mapping[str, object] = field(default_factory=dict)
    commands: tuple[Mapping[str, object], ...] = ()
