"""The language as models: what a pipeline may say, key by key.

Values only: reading files, positions and suggestions is `loading`, expanding a definition for one
event is `plan`. How the application runs is `serving`, the operator's file is `policy`; both are
given on from here. The `#:` comments are what editors and `docs/reference/pipeline.md` say of a key.
Annotations are real objects and nothing is instantiated here: that halves what a start costs.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.occasions import Input, ManualTrigger, PullRequestTrigger, PushTrigger, ScheduleTrigger, Triggers
from pipeline.serving import Accessory, App, Before, Health, Process, Ready, Resources
from pipeline.vocabulary import (
    LISTED,
    Duration,
    Env,
    EnvName,
    Flag,
    Model,
    Name,
    Positive,
    SecretName,
    SecretUse,
    SecretUses,
    Short,
    Strings,
    Text,
    Texts,
    as_data,
    no_entries,
    no_items,
    seconds,
    size_bytes,
)

if TYPE_CHECKING:
    # fmt: off
    from pipeline.policy import (  # noqa: I001
        Application, Approval, BlueGreen, Environment, Environments, Freeze, Public, Requires, Rule, Strategy, Target,
    )
    # fmt: on

KINDS = ("run", "build", "push", "promote")
_RUN_ONLY = [
    "image",
    "services",
    "cache",
    "artifacts",
    "reports",
    "workdir",
    "shell",
    "user",
    "resources",
    "network",
    "outputs",
]


# --- what every stage may say ---------------------------------------------------------------------------------------

RetryCause = Literal["failed", "timeout", "oom", "runner_lost", "image_pull", "service", "registry", "errored"]
EventKind = Literal["push", "pull_request", "tag", "schedule", "manual"]


class Need(Model):
    """A stage that must come first; optional means that a skipped one is good enough."""

    stage: Name  #: its name
    optional: Flag = False  #: a skipped one is good enough


Needs = Annotated[list[Annotated[Need, Short("stage")]], LISTED]


class Condition(Model):
    """One item of `when`: all keys must hold. The list is OR."""

    event: Annotated[list[EventKind], LISTED] | None = None  #: one of these events
    branch: Strings | None = None  #: one of these branches (globs)
    tag: Strings | None = None  #: one of these tags (globs)
    path: Strings | None = None  #: one of these changed (globs)
    status: Annotated[list[Literal["succeeded", "failed", "always"]], LISTED] | None = None  #: of the needs
    if_: str | None = Field(default=None, alias="if")  #: a CEL expression that must be true


class Retry(Model):
    """How often and for which causes a stage is tried again."""

    max: Annotated[int, Field(ge=0, le=10)] = 0  #: how often again
    on: Annotated[tuple[RetryCause, ...], LISTED] = ("runner_lost", "image_pull")  #: for which causes


class Concurrency(Model):
    """At most one run (or stage) of a group at a time; newer ones may cancel older ones."""

    group: str  #: name of the group
    cancel_superseded: Flag = False  #: a newer one cancels older ones, but never a promotion that has begun


class Matrix(BaseModel):
    """Axes (any other key), with combinations added, removed, and how they run."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[str, list[Text]] = Field(init=False)
    include: list[dict[Name, Text]] = Field(default_factory=no_items)  #: combinations added
    exclude: list[dict[Name, Text]] = Field(default_factory=no_items)  #: combinations removed
    fail_fast: Flag = True  #: the first failure cancels the others
    max_parallel: Positive | None = None  #: how many at once


# --- the kinds of stages --------------------------------------------------------------------------------------------


class Service(Model):
    """A container beside a stage, reached by its name."""

    image: str  #: reference of the image
    command: Texts = Field(default_factory=no_items)  #: instead of the image's own
    env: Env = Field(default_factory=no_entries)  #: environment variables
    secrets: SecretUses = Field(default_factory=no_items)  #: secrets by name
    ready: Ready | None = None  #: how it says that it can be used


class CacheKey(Model):
    """What the cache's key is made of: a prefix and the content of files."""

    prefix: str = ""  #: any text
    files: Strings = Field(default_factory=no_items)  #: whose content is part of the key (globs)


class Cache(Model):
    """Paths kept between runs of the same pipeline, branch (then default branch) and trust."""

    paths: Strings  #: folders that are kept
    key: Annotated[CacheKey, Short("prefix")] = Field(default={}, validate_default=True)  #: a change begins anew
    policy: Literal["pull_push", "pull"] = "pull_push"  #: `pull` never writes


class Artifacts(Model):
    """Files kept from a stage; given to the stages that need it directly, at the same paths."""

    paths: Strings  #: inside the workspace (globs)
    when: Literal["success", "failure", "always"] = "success"  #: after which end of the stage
    keep: Duration = 2592000.0  #: how long


class Reports(Model):
    """Test reports that a stage leaves behind."""

    junit: Strings = Field(default_factory=no_items)  #: JUnit XML files (globs)


class Checkout(Model):
    """What the workspace holds."""

    depth: Positive | None = None  #: commits of history; left out means all
    submodules: Flag = False  #: with submodules
    lfs: Flag = False  #: with large files


class Build(Model):
    """An image built with BuildKit from the workspace."""

    context: str = "."  #: folder given to the builder
    dockerfile: str = "Dockerfile"  #: inside the context
    target: str | None = None  #: a stage of the Dockerfile
    args: dict[EnvName, Text] = Field(default_factory=no_entries)  #: build arguments
    secrets: list[SecretName] = Field(default_factory=no_items)  #: given as BuildKit secrets, never part of a layer
    platforms: Strings = Field(default_factory=no_items)  #: such as linux/amd64
    cache: Flag = True  #: use and write the layer cache


class Push(Model):
    """A built image sent to a registry, known from then on by its digest."""

    image: str  #: such as ${{ stages.NAME.image }}
    to: str  #: repository, such as registry.example/shop
    tags: Texts = Field(default_factory=no_items)  #: an empty one is dropped, and named


class Verify(Model):
    """Commands run against the idle colour, before the swap; `$PREVIEW_URL` reaches it."""

    image: str  #: reference of the image
    run: Strings  #: one command or several
    timeout: Duration = 600.0  #: how long it may take


class Promote(Model):
    """Put this run's image live in an environment."""

    environment: Name  #: the environment
    from_: Name | None = Field(default=None, alias="from")  #: only the digest that this run put live there
    verify: Verify | None = None  #: tests against the idle colour, before the swap


class Stage(Model):
    """One box of the graph: exactly one of `run`, `build`, `push`, `promote`."""

    needs: Needs | None = None  #: stages that come first; left out: the stage before it, as an optional need
    when: Annotated[list[Condition], LISTED] = Field(default_factory=no_items)  #: left out means always
    matrix: Matrix | None = None  #: run it once per combination
    env: Env = Field(default_factory=no_entries)  #: environment variables
    secrets: list[SecretName] = Field(default_factory=no_items)  #: secrets by name, in the commands' environment
    timeout: Duration | None = None  #: left out: that of `defaults`
    retry: Retry | None = None  #: left out: that of `defaults`
    allow_failure: Flag = False  #: its failure does not fail the run
    concurrency: Concurrency | None = None  #: one at a time over all runs
    outputs: list[EnvName] = Field(default_factory=no_items)  #: names that it may write to $PIPE_OUTPUT
    runs_on: Strings = Field(default_factory=no_items)  #: labels that the worker must have

    run: Strings | None = None  #: one command or several
    image: str | None = None  #: the image in which the commands run
    services: dict[Name, Service] = Field(default_factory=no_entries)  #: containers beside it, reached by their names
    cache: Annotated[list[Cache], LISTED] = Field(default_factory=no_items)  #: folders kept between runs
    artifacts: Artifacts | None = None  #: files kept, and given to the stages that need it
    reports: Reports | None = None  #: test reports
    workdir: str | None = None  #: where commands start; left out means the workspace
    shell: str | None = None  #: left out means sh
    user: str | None = None  #: left out means the image's
    resources: Resources | None = None  #: upper limits
    network: Literal["default", "none"] = "default"  #: `none` cuts it off
    checkout: Checkout | Literal[False] = Field(default={}, validate_default=True)  #: false: an empty workspace

    build: Build | None = None  #: build an image
    push: Push | None = None  #: push an image
    promote: Promote | None = None  #: put the image live

    @property
    def kind(self) -> str:
        """Return which of the four kinds this stage is."""
        return next((k for k in KINDS if getattr(self, k) is not None), "run")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        said = self.__pydantic_fields_set__
        kinds = [k for k in KINDS if k in said and getattr(self, k) is not None]
        if len(kinds) != 1:
            found = " and ".join(f"`{k}`" for k in kinds) or "none of them"
            raise ValueError(f"a stage has exactly one of `run`, `build`, `push`, `promote`; this one has {found}")
        if kinds == ["run"]:
            if not self.image:
                raise ValueError("a stage with `run` needs an `image` to run in")
        elif wrong := [k for k in _RUN_ONLY if k in said]:
            names = " and ".join(f"`{k}`" for k in wrong)
            raise ValueError(f"{names} belongs to a stage with `run`; this one has `{kinds[0]}`")
        return self


# --- the whole ------------------------------------------------------------------------------------------------------


class Defaults(Model):
    """What stages take when they do not say it themselves."""

    timeout: Duration = 3600.0  #: counts neither waiting nor promotions
    retry: Retry = Field(default={}, validate_default=True)  #: which failures are tried again


class Include(Model):
    """Stages of another local file, with its inputs filled in."""

    file: str  #: path inside the repository
    inputs: dict[Name, str | bool | int | float] = Field(default_factory=no_entries)  #: what its `inputs` ask for


class Part(Model):
    """An included file: stages, and the inputs that they ask for."""

    version: Literal[1]  #: of the language
    inputs: dict[Name, Input] = Field(default_factory=no_entries)  #: typed values that the including file gives
    stages: dict[Name, Stage] = Field(min_length=1)  #: by name


class Definition(Model):
    """A whole pipeline as its file says it, its included files taken in."""

    version: Literal[1]  #: of the language
    name: Name  #: of the pipeline, and of its application
    repository: str | None = None  #: on the server: where the source lives
    definition: str | None = None  #: on the server: take the repository's own file of this path
    on: Triggers = Field(default={}, validate_default=True)  #: which events start a run; left out means all
    env: Env = Field(default_factory=no_entries)  #: variables of every stage
    defaults: Defaults = Field(default={}, validate_default=True)  #: what stages take when they do not say it
    concurrency: Concurrency | None = None  #: at most one run of a group at a time
    include: Annotated[list[Annotated[Include, Short("file")]], LISTED] = Field(
        default_factory=no_items
    )  #: other local files
    stages: dict[Name, Stage] = Field(default_factory=no_entries)  #: by name
    app: App | None = None  #: how the application runs


_POLICY = frozenset({"Application", "Approval", "BlueGreen", "Environment", "Environments", "Freeze"})
_POLICY |= {"Public", "Requires", "Rule", "Strategy", "Target"}


def __getattr__(name: str) -> Any:
    """Give the operator's models on; they are imported only where they are used."""
    if name in _POLICY:
        from pipeline import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# fmt: off
__all__ = [  # noqa: RUF022
    "KINDS", "Model", "as_data", "seconds", "size_bytes",
    "Definition", "Part", "Include", "Defaults", "Triggers", "PushTrigger", "PullRequestTrigger", "ScheduleTrigger",
    "ManualTrigger", "Input", "Stage", "Need", "Condition", "Retry", "Concurrency", "Matrix", "Service", "SecretUse",
    "SecretUses", "Ready", "Cache", "CacheKey", "Artifacts", "Reports", "Resources", "Checkout", "Build", "Push",
    "Verify", "Promote", "App", "Process", "Health", "Accessory", "Before",
    "Application", "Approval", "BlueGreen", "Environment", "Environments", "Freeze", "Public", "Requires", "Rule",
    "Strategy", "Target",
]
# fmt: on
