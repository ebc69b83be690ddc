"""What the operator's file `environments.yml` says: where an application is live, and what may be promoted there.

Values only. Policy is never read from a repository: the author of a change can not edit the gate
that the change must pass.
"""

from typing import Literal

from pydantic import Field

from pipeline.vocabulary import (
    Duration,
    Env,
    Flag,
    Model,
    Name,
    Port,
    Positive,
    SecretName,
    Strings,
    no_entries,
    no_items,
)


class Target(Model):
    """Where a release lives: exactly one kind."""

    docker: str | None = None  #: address of a Docker Engine; empty means the local one
    compose: str | None = None  #: address of a Docker Engine that is driven through Compose
    swarm: str | None = None  #: address of a Swarm manager
    kubernetes: str | None = None  #: context of the kubeconfig
    dummy: str | None = None  #: in memory, for tests


class Public(Model):
    """Where people reach the environment: a port of its own, or a host name on the shared port."""

    port: Port | None = None  #: a port of its own
    host: str | None = None  #: a host name on the shared port
    process: Name | None = None  #: which process; left out means the only one with a `port`


class BlueGreen(Model):
    """How the swap goes on after the switch."""

    drain: Duration = 30.0  #: how long requests in flight may stay on the old colour
    keep_old: Duration = 1800.0  #: how long the old colour stays warm for a rollback
    bake: Duration = 10.0  #: how long the new colour is watched
    auto_rollback: Flag = True  #: switch back when the bake is breached
    max_error_rate: float = Field(default=0.05, ge=0, le=1)  #: share of 5xx answers that breaches the bake


class Strategy(Model):
    """How a release is changed."""

    blue_green: BlueGreen = Field(default={}, validate_default=True)  #: the only strategy there is


class Requires(Model):
    """What must be true at the request, and again at the switch."""

    branches: Strings = Field(default_factory=no_items)  #: only runs of these branches (globs)
    from_: Name | None = Field(default=None, alias="from")  #: the environment that the digest must have passed
    stages: Strings = Field(default_factory=no_items)  #: stages that must have succeeded in the same run
    verify: Flag = False  #: the promotion must have a `verify`


class Rule(Model):
    """How many people of a role must approve."""

    role: str  #: the role
    count: Positive = 1  #: how many different people


class Approval(Model):
    """Who decides, how long, and at which of the two gates."""

    rules: list[Rule] = Field(
        default=[{"role": "release-manager"}], validate_default=True
    )  #: all of them; left out: one release-manager
    self_approval: Flag = False  #: the author may approve too
    expires: Duration = 86400.0  #: an unanswered request ends after this
    gate: Literal["before_start", "before_swap"] = "before_start"  #: before anything starts, or after the verify


class Freeze(Model):
    """A window, begun by a cron line, in which nothing is promoted."""

    cron: str  #: when it begins
    duration: Duration  #: how long it lasts
    timezone: str = "UTC"  #: of the cron line
    reason: str = ""  #: shown to whoever is stopped


class Environment(Model):
    """One place where an application is live."""

    target: Target = Field(default={"docker": ""}, validate_default=True)  #: where a release lives
    public: Public = Field(default={}, validate_default=True)  #: where people reach it
    strategy: Strategy = Field(default={}, validate_default=True)  #: how a release is changed
    replicas: dict[Name, int] = Field(default_factory=no_entries)  #: per process, instead of the definition's
    requires: Requires | None = None  #: what must be true of the run
    approval: Approval | None = None  #: who decides
    freeze: list[Freeze] = Field(default_factory=no_items)  #: when nothing is promoted
    env: Env = Field(default_factory=no_entries)  #: variables of every process, over the definition's
    secrets: list[SecretName] = Field(default_factory=no_items)  #: secrets that processes here may use


class Application(Model):
    """The environments of one application, in the order in which a release passes them."""

    environments: dict[Name, Environment] = Field(default_factory=no_entries)  #: by name


class Environments(Model):
    """The operator's file `environments.yml`."""

    applications: dict[Name, Application] = Field(default_factory=no_entries)  #: by name
