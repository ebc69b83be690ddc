"""Everything that can go wrong and that a person should read: one root, a hint, an exit code.

`LeaseLost` stands outside the tree on purpose: no clean-up code may catch it
with `except PipeError`, because whoever lost a lease must touch nothing more.
"""

from __future__ import annotations


class PipeError(Exception):
    """Base of all errors shown to people: what happened, and in `hint` what to do about it."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class DefinitionError(PipeError):
    """The definition, or the command's usage, is wrong. The message begins `file:line:column:` where known."""

    exit_code = 2


class NotFound(PipeError):
    """There is no such run, stage, environment or promotion."""

    exit_code = 2


class NotAllowed(PipeError):
    """The person or the policy does not permit it."""

    exit_code = 2


class Conflict(PipeError):
    """An illegal move: the record is not in a state that permits this."""

    exit_code = 2


class StageFailed(PipeError):
    """The author's news: a command, test, build or health check said no. Never retried unless asked."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", cause: str = "failed", code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.code = code


class Unavailable(PipeError):
    """Ours or the machine's: Docker, registry, router, disk. `cause` names a retry cause of the language."""

    def __init__(self, message: str, *, hint: str = "", cause: str = "errored") -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


class NeedsAttention(PipeError):
    """Record and reality contradict each other; nothing was touched, a person must look."""


class LeaseLost(Exception):
    """Another worker owns this job now: touch nothing any more, not even to clean up."""
