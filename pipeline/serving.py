"""How the application runs, in every environment: its processes, its accessories, its before-hook.

Values only. Where it runs and under which policy is the operator's file, `policy`.
"""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.vocabulary import (
    LISTED,
    Count,
    Duration,
    Env,
    Model,
    Name,
    Port,
    Positive,
    SecretUses,
    Size,
    Texts,
    no_entries,
    no_items,
)


class Ready(Model):
    """How a container says that it can be used; exactly one of `run`, `port`, `http`."""

    run: str | None = None  #: a command in the container that exits 0 once it is ready
    port: Port | None = None  #: a TCP port that accepts connections
    http: str | None = None  #: `:port/path` that answers with 2xx
    timeout: Duration = 60.0  #: how long it may take
    interval: Duration = 0.5  #: how long between two looks


class Resources(Model):
    """Upper limits of a container."""

    cpus: float | None = Field(default=None, gt=0, allow_inf_nan=False)  #: processors, also parts of one
    memory: Size | None = None  #: like 512m or 2GiB
    pids: Positive | None = None  #: processes and threads


class Health(Model):
    """How a process says that it can take requests."""

    http: str = "/"  #: path that is asked
    interval: Duration = 1.0  #: how long between two questions
    timeout: Duration = 60.0  #: how long it may take until the first good answer
    status: Annotated[int, Field(ge=100, le=599)] = 200  #: the good answer


class Process(Model):
    """One kind of process of the application. With a `port` it takes requests and is swapped blue-green."""

    image: str = "push"  #: the `push` stage whose image it runs, or a reference by digest
    command: Texts = Field(default_factory=no_items)  #: instead of the image's own
    port: Port | None = None  #: where it listens for HTTP
    health: Health = Field(default={}, validate_default=True)  #: how it says that it can take requests
    replicas: Annotated[Count, Field(le=32)] = 1  #: how many, unless the environment says otherwise
    stop_grace: Duration = 10.0  #: between SIGTERM and SIGKILL
    env: Env = Field(default_factory=no_entries)  #: environment variables
    secrets: SecretUses = Field(default_factory=no_items)  #: secrets by name
    resources: Resources | None = None  #: upper limits
    swap: Literal["blue_green", "stop_then_start"] = "blue_green"  #: `stop_then_start`: never two at once


class Accessory(Model):
    """A container beside the application that is not coloured, not swapped, and keeps its volume."""

    image: str  #: reference of the image
    command: Texts = Field(default_factory=no_items)  #: instead of the image's own
    env: Env = Field(default_factory=no_entries)  #: environment variables
    secrets: SecretUses = Field(default_factory=no_items)  #: secrets by name
    volume: Annotated[list[str], LISTED] = Field(default_factory=no_items)  #: `name:/path`; host paths are refused
    ready: Ready | None = None  #: how it says that it can be used


class Before(Model):
    """A command run once per promotion in the new image, before the new colour starts."""

    process: Name = "web"  #: whose image, variables and secrets it gets
    run: str  #: the command
    timeout: Duration = 600.0  #: how long it may take


class App(Model):
    """How the application runs, in every environment."""

    processes: dict[Name, Process] = Field(min_length=1)  #: by name
    accessories: dict[Name, Accessory] = Field(default_factory=no_entries)  #: by name, which is also their host name
    before: Before | None = None  #: once per promotion, such as a migration
    env: Env = Field(default_factory=no_entries)  #: variables of every process


__all__ = ["Accessory", "App", "Before", "Health", "Process", "Ready", "Resources"]
