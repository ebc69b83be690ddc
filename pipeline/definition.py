"""The language as models: what a pipeline and its environments may say, key by key.

Values only: reading files, positions and suggestions is `loading`, expanding a
definition for one event is `plan`. The reference that users read is
`docs/reference/pipeline.md`; a test keeps it and these models equal.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)


def seconds(value: object) -> float:
    """Read a duration such as `90s`, `15m`, `1h30m`; a bare number is refused because its unit is unclear."""
    if isinstance(value, str) and value and _DURATION.sub("", value) == "":
        return float(sum(float(n) * _UNITS[u] for n, u in _DURATION.findall(value)))
    if isinstance(value, float):  # already read: a definition that was saved and loaded again
        return value
    raise ValueError("a duration is written with its unit, like 90s, 15m or 1h30m")


def size_bytes(value: object) -> int:
    """Read a size such as `512m` or `2GiB` into bytes."""
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError("a size is written like 512m or 2GiB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Duration = Annotated[float, BeforeValidator(seconds)]
Size = Annotated[int, BeforeValidator(size_bytes)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Text = Annotated[
    str, BeforeValidator(lambda v: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v)
]
Strings = Annotated[list[str], BeforeValidator(_listed)]
Env = dict[EnvName, Text]
Port = Annotated[int, Field(ge=1, le=65535)]


class Model(BaseModel):
    """Unknown keys are errors; values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


# --- triggers -------------------------------------------------------------------------------------------------------


class PushTrigger(Model):
    """Branches and paths whose pushes start a run; left out means all."""

    branches: Strings = Field(default_factory=list)
    branches_ignore: Strings = Field(default_factory=list)
    paths: Strings = Field(default_factory=list)
    paths_ignore: Strings = Field(default_factory=list)


class PullRequestTrigger(Model):
    """Target branches and paths whose pull requests start a run."""

    branches: Strings = Field(default_factory=list)
    paths: Strings = Field(default_factory=list)
    paths_ignore: Strings = Field(default_factory=list)


class ScheduleTrigger(Model):
    """A cron line in a time zone, run on one branch."""

    cron: str
    timezone: str = "UTC"
    branch: str = ""


class Input(Model):
    """A typed value asked for when a run is started by hand, or given to an included file."""

    type: Literal["string", "boolean", "number", "choice"] = "string"
    default: str | bool | int | float | None = None
    options: list[str] = Field(default_factory=list)
    required: bool = False
    description: str = ""


class ManualTrigger(Model):
    """What may be asked when a run is started by hand."""

    inputs: dict[Name, Input] = Field(default_factory=dict)


class Triggers(Model):
    """Which events start a run."""

    push: PushTrigger | None = None
    pull_request: PullRequestTrigger | None = None
    tag: Strings | None = None
    schedule: list[ScheduleTrigger] = Field(default_factory=list)
    manual: ManualTrigger | None = None


# --- what every stage may say ---------------------------------------------------------------------------------------

RetryCause = Literal["failed", "timeout", "oom", "runner_lost", "image_pull", "service", "registry", "errored"]


class Need(Model):
    """A stage that must come first; optional means that a skipped one is good enough."""

    stage: str
    optional: bool = False


def _need(value: object) -> object:
    return {"stage": value} if isinstance(value, str) else value


Needs = list[Annotated[Need, BeforeValidator(_need)]]


class Condition(Model):
    """One item of `when`: all keys must hold. The list is OR."""

    event: Strings | None = None
    branch: Strings | None = None
    tag: Strings | None = None
    path: Strings | None = None
    status: Annotated[list[Literal["succeeded", "failed", "always"]], BeforeValidator(_listed)] | None = None
    if_: str | None = Field(default=None, alias="if")


class Retry(Model):
    """How often and for which causes a stage is tried again."""

    max: int = Field(default=0, ge=0, le=10)
    on: Annotated[tuple[RetryCause, ...], BeforeValidator(_listed)] = ("runner_lost", "image_pull")


class Concurrency(Model):
    """At most one run (or stage) of a group at a time; newer ones may cancel older ones."""

    group: str
    cancel_superseded: bool = False


class Matrix(BaseModel):
    """Axes (any other key), with combinations added, removed, and how they run."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, list[Text | bool]] = Field(init=False)
    include: list[dict[str, Text | bool]] = Field(default_factory=list)
    exclude: list[dict[str, Text | bool]] = Field(default_factory=list)
    fail_fast: bool = True
    max_parallel: int | None = Field(default=None, ge=1)


# --- the kinds of stages --------------------------------------------------------------------------------------------


class Ready(Model):
    """How a service says that it can be used; exactly one of `run`, `port`, `http`."""

    run: str | None = None
    port: Port | None = None
    http: str | None = None
    timeout: Duration = 60.0
    interval: Duration = 0.5


def _service_secret(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class SecretUse(Model):
    """A secret by name, as a file in memory under /run/secrets (default) or as an environment variable."""

    name: SecretName
    as_: Literal["file", "env"] = Field(default="file", alias="as")


SecretUses = list[Annotated[SecretUse, BeforeValidator(_service_secret)]]


class Service(Model):
    """A container beside a stage, reached by its name."""

    image: str
    command: Strings = Field(default_factory=list)
    env: Env = Field(default_factory=dict)
    secrets: SecretUses = Field(default_factory=list)
    ready: Ready | None = None


class CacheKey(Model):
    """What the cache's key is made of: a prefix and the content of files."""

    prefix: str = ""
    files: Strings = Field(default_factory=list)


class Cache(Model):
    """Paths kept between runs of the same pipeline, branch (then default branch) and trust."""

    paths: Strings
    key: Annotated[CacheKey, BeforeValidator(lambda v: {"prefix": v} if isinstance(v, str) else v)] = CacheKey()
    policy: Literal["pull_push", "pull"] = "pull_push"


class Artifacts(Model):
    """Files kept from a stage; given to the stages that need it directly, at the same paths."""

    paths: Strings
    when: Literal["success", "failure", "always"] = "success"
    keep: Duration = 2592000.0


class Reports(Model):
    """Test reports that a stage leaves behind."""

    junit: Strings = Field(default_factory=list)


class Resources(Model):
    """Upper limits of a container."""

    cpus: float | None = Field(default=None, gt=0)
    memory: Size | None = None
    pids: int | None = Field(default=None, ge=1)


class Checkout(Model):
    """What the workspace holds."""

    depth: int | None = Field(default=None, ge=1)
    submodules: bool = False
    lfs: bool = False


class Build(Model):
    """An image built with BuildKit from the workspace."""

    context: str = "."
    dockerfile: str = "Dockerfile"
    target: str | None = None
    args: dict[EnvName, Text] = Field(default_factory=dict)
    secrets: list[SecretName] = Field(default_factory=list)
    platforms: Strings = Field(default_factory=list)
    cache: bool = True


class Push(Model):
    """A built image sent to a registry, known from then on by its digest."""

    image: str
    to: str
    tags: Strings = Field(default_factory=list)


class Verify(Model):
    """Commands run against the idle colour, before the swap; `$PREVIEW_URL` reaches it."""

    image: str
    run: Strings
    timeout: Duration = 600.0


class Promote(Model):
    """Put this run's image live in an environment; `from` names the environment that it must have passed."""

    environment: Name
    from_: Name | None = Field(default=None, alias="from")
    verify: Verify | None = None


class Stage(Model):
    """One box of the graph: exactly one of `run`, `build`, `push`, `promote`."""

    needs: Needs | None = None
    when: Annotated[list[Condition], BeforeValidator(_listed)] = Field(default_factory=list)
    matrix: Matrix | None = None
    env: Env = Field(default_factory=dict)
    secrets: list[SecretName] = Field(default_factory=list)
    timeout: Duration | None = None
    retry: Retry | None = None
    allow_failure: bool = False
    concurrency: Concurrency | None = None
    outputs: list[str] = Field(default_factory=list)
    runs_on: Strings = Field(default_factory=list)

    run: Strings | None = None
    image: str | None = None
    services: dict[Name, Service] = Field(default_factory=dict)
    cache: Annotated[list[Cache], BeforeValidator(_listed)] = Field(default_factory=list)
    artifacts: Artifacts | None = None
    reports: Reports | None = None
    workdir: str | None = None
    shell: str | None = None
    user: str | None = None
    resources: Resources | None = None
    network: Literal["default", "none"] = "default"
    checkout: Checkout | Literal[False] = Checkout()

    build: Build | None = None
    push: Push | None = None
    promote: Promote | None = None

    @property
    def kind(self) -> str:
        """Return which of the four kinds this stage is."""
        return next((k for k in ("run", "build", "push", "promote") if getattr(self, k) is not None), "run")

    @model_validator(mode="after")
    def _one_kind(self) -> Stage:
        kinds = [k for k in ("run", "build", "push", "promote") if getattr(self, k) is not None]
        if len(kinds) != 1:
            found = " and ".join(f"`{k}`" for k in kinds) or "none of them"
            raise ValueError(f"a stage has exactly one of `run`, `build`, `push`, `promote`; this one has {found}")
        if kinds == ["run"] and not self.image:
            raise ValueError("a stage with `run` needs an `image` to run in")
        return self


# --- how the application runs ---------------------------------------------------------------------------------------


class Health(Model):
    """How a process says that it can take requests."""

    http: str = "/"
    interval: Duration = 1.0
    timeout: Duration = 60.0
    status: int = 200


class Process(Model):
    """One kind of process of the application. With a `port` it takes requests and is swapped blue-green."""

    image: str = "push"
    command: Strings = Field(default_factory=list)
    port: Port | None = None
    health: Health = Health()
    replicas: int = Field(default=1, ge=0, le=32)
    stop_grace: Duration = 10.0
    env: Env = Field(default_factory=dict)
    secrets: SecretUses = Field(default_factory=list)
    resources: Resources | None = None
    swap: Literal["blue_green", "stop_then_start"] = "blue_green"


class Accessory(Model):
    """A container beside the application that is not coloured, not swapped, and keeps its volume."""

    image: str
    command: Strings = Field(default_factory=list)
    env: Env = Field(default_factory=dict)
    secrets: SecretUses = Field(default_factory=list)
    volume: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    ready: Ready | None = None


class Before(Model):
    """A command run once per promotion in the new image, before the new colour starts."""

    process: Name = "web"
    run: str
    timeout: Duration = 600.0


class App(Model):
    """How the application runs, in every environment."""

    processes: dict[Name, Process] = Field(min_length=1)
    accessories: dict[Name, Accessory] = Field(default_factory=dict)
    before: Before | None = None
    env: Env = Field(default_factory=dict)


class Defaults(Model):
    """What stages take when they do not say it themselves."""

    timeout: Duration = 3600.0
    retry: Retry = Retry()


class Include(Model):
    """Stages of another local file, with its inputs filled in."""

    file: str
    inputs: dict[Name, str | bool | int | float] = Field(default_factory=dict)


class Definition(Model):
    """A whole pipeline as its file says it."""

    version: Literal[1]
    name: Name
    repository: str | None = None
    definition: str | None = None
    on: Triggers = Triggers()
    env: Env = Field(default_factory=dict)
    defaults: Defaults = Defaults()
    concurrency: Concurrency | None = None
    include: Annotated[
        list[Annotated[Include, BeforeValidator(lambda v: {"file": v} if isinstance(v, str) else v)]],
        BeforeValidator(_listed),
    ] = Field(default_factory=list)
    inputs: dict[Name, Input] = Field(default_factory=dict)
    stages: dict[Name, Stage] = Field(default_factory=dict)
    app: App | None = None


# --- the operator's file of environments ----------------------------------------------------------------------------


class Target(Model):
    """Where a release lives: exactly one kind."""

    docker: str | None = None
    compose: str | None = None
    swarm: str | None = None
    kubernetes: str | None = None
    dummy: str | None = None


class Public(Model):
    """Where people reach the environment: a port of its own, or a host name on the shared port."""

    port: Port | None = None
    host: str | None = None
    process: Name | None = None


class BlueGreen(Model):
    """How the swap goes on after the switch."""

    drain: Duration = 30.0
    keep_old: Duration = 1800.0
    bake: Duration = 10.0
    auto_rollback: bool = True
    max_error_rate: float = Field(default=0.05, ge=0, le=1)


class Strategy(Model):
    """How a release is changed."""

    blue_green: BlueGreen = BlueGreen()


class Requires(Model):
    """What must be true at the request, and again at the switch."""

    branches: Strings = Field(default_factory=list)
    from_: Name | None = Field(default=None, alias="from")
    stages: Strings = Field(default_factory=list)
    verify: bool = False


class Rule(Model):
    """How many people of a role must approve."""

    role: str
    count: int = Field(default=1, ge=1)


class Approval(Model):
    """Who decides, how long, and at which of the two gates."""

    rules: list[Rule] = Field(default_factory=lambda: [Rule(role="release-manager", count=1)])
    self_approval: bool = False
    expires: Duration = 86400.0
    gate: Literal["before_start", "before_swap"] = "before_start"


class Freeze(Model):
    """A window, begun by a cron line, in which nothing is promoted."""

    cron: str
    duration: Duration
    timezone: str = "UTC"
    reason: str = ""


class Environment(Model):
    """One place where an application is live."""

    target: Target = Target(docker="")
    public: Public = Public()
    strategy: Strategy = Strategy()
    replicas: dict[Name, int] = Field(default_factory=dict)
    requires: Requires | None = None
    approval: Approval | None = None
    freeze: list[Freeze] = Field(default_factory=list)
    env: Env = Field(default_factory=dict)
    secrets: list[SecretName] = Field(default_factory=list)


class Application(Model):
    """The environments of one application, in the order in which a release passes them."""

    environments: dict[Name, Environment] = Field(default_factory=dict)


class Environments(Model):
    """The operator's file `environments.yml`."""

    applications: dict[Name, Application] = Field(default_factory=dict)


def as_data(model: BaseModel) -> dict[str, Any]:
    """Return plain data that validates to an equal model again."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
