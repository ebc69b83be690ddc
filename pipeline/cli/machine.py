"""Commands about this machine: `doctor`, `gc`, `image save` and `image load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import Exit
from pipeline.cli.menu import command
from pipeline.cli.names import json_option

if TYPE_CHECKING:
    from pipeline.settings import Settings

_GLYPHS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}


@command(
    "doctor",
    examples="""
pipe doctor
pipe doctor --json
""",
)
@json_option()
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Check this machine: engine, buildx, registry, proxy, disk, clock, permissions, and say how to mend each.

    Nothing is changed. The exit code is 3 when something prevents runs.
    """
    from runners.doctor import examine

    checks = examine(settings)
    if as_json:
        import json

        for check in checks:
            fields = {"check": check.name, "verdict": str(check.verdict), "detail": check.detail, "mend": check.mend}
            click.echo(json.dumps(fields))
    else:
        _told(checks)
    return Exit.ERRORED if any(check.verdict == "fail" for check in checks) else Exit.DONE


def _told(checks: Any) -> None:
    from pipeline.cli.tables import say
    from pipeline.cli.view_text import counted

    column = max(len(check.name) for check in checks)
    for check in checks:
        glyph, style = _GLYPHS[check.verdict]
        say([(glyph, style), (f" {check.name.ljust(column)}  ", "bold"), (check.detail, "")])
        for line in check.mend.splitlines():
            say([(" " * (column + 4), ""), (line, "dim")])
    bad = sum(check.verdict == "fail" for check in checks)
    weak = sum(check.verdict == "warn" for check in checks)
    if bad:
        say([("\n", ""), (f"{counted(bad, 'thing')} to mend before runs can work", "bad")])
    elif weak:
        say([("\n", ""), (f"runs work; {counted(weak, 'thing')} could be better", "warn")])
    else:
        say([("\n", ""), ("all is well", "good")])
