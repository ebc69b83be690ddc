"""Which events start a run, as models. Whether a given event does is `triggers`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.vocabulary import Flag, Model, Name, Strings, Texts, as_written, no_entries, no_items


class PushTrigger(Model):
    """Branches and paths whose pushes start a run; left out means all."""

    branches: Strings = Field(default_factory=no_items)  #: only these (globs)
    branches_ignore: Strings = Field(default_factory=no_items)  #: never these (globs)
    paths: Strings = Field(default_factory=no_items)  #: only when one of these changed (globs)
    paths_ignore: Strings = Field(default_factory=no_items)  #: not when nothing but these changed (globs)


class PullRequestTrigger(Model):
    """Target branches and paths whose pull requests start a run."""

    branches: Strings = Field(default_factory=no_items)  #: only pull requests into these (globs)
    paths: Strings = Field(default_factory=no_items)  #: only when one of these changed (globs)
    paths_ignore: Strings = Field(default_factory=no_items)  #: not when nothing but these changed (globs)


class ScheduleTrigger(Model):
    """A cron line in a time zone, run on one branch."""

    cron: str  #: minute, hour, day of month, month, day of week
    timezone: str = "UTC"  #: a name such as Europe/Berlin
    branch: str = ""  #: left out means the default branch


class Input(Model):
    """A typed value asked for when a run is started by hand, or given to an included file."""

    type: Literal["string", "boolean", "number", "choice"] = "string"  #: what may be given
    default: str | bool | int | float | None = None  #: what it is when nothing is given
    options: Texts = Field(default_factory=no_items)  #: of a `choice`
    required: Flag = False  #: something must be given
    description: str = ""  #: shown to who is asked

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, data: Any) -> Any:
        """Keep the default of a text as it was written: 3.10 is not 3.1."""
        if isinstance(data, dict) and data.get("type", "string") in ("string", "choice") and "default" in data:
            default = data["default"]
            return {**data, "default": default if isinstance(default, bool) else as_written(default)}
        return data


class ManualTrigger(Model):
    """What may be asked when a run is started by hand."""

    inputs: dict[Name, Input] = Field(default_factory=no_entries)  #: by name


class Triggers(Model):
    """Which events start a run."""

    push: PushTrigger | None = None  #: a push to a branch
    pull_request: PullRequestTrigger | None = None  #: a pull request opened or changed
    tag: Strings | None = None  #: a tag was pushed (globs)
    schedule: list[ScheduleTrigger] = Field(default_factory=no_items)  #: at certain times
    manual: ManualTrigger | None = None  #: started by a person
