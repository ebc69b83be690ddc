"""Where a command line becomes a command, and every error becomes a message and an exit code.

No traceback leaves here: an expected error is printed with its hint, an unexpected one as
one line with the file that holds the details.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path

import click

from pipeline import settings
from pipeline.cli.exits import Exit
from pipeline.cli.menu import Menu
from pipeline.errors import PipeError

HELP = """Build, test and release from one file, with the same engine on a laptop and on a server.

A pipeline is described in `pipe.yml`. `pipe init` writes one, `pipe run` runs it."""


def _welcome() -> None:
    from pipeline.cli.places import find_definition

    found = find_definition(Path.cwd())
    if found:
        step = [("pipe run", f"run the pipeline in {found.shown}"), ("pipe lint", "check it without running")]
    else:
        step = [("pipe init", "look at this repository and write a pipe.yml")]
    step += [("pipe env", "what is live where"), ("pipe doctor", "check this machine"), ("pipe --help", "everything")]
    click.echo("pipe: build, test and release from one file.\n")
    click.echo("Next:" if found else "There is no pipe.yml here yet. Next:")
    for text, why in step:
        click.echo(f"  {click.style(text.ljust(12), bold=True)} {why}")


@click.group(
    "pipe",
    cls=Menu,
    help=HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage or definition, 3 errored, 4 waiting for approval, 130 cancelled.",
)
@click.option("-V", "--version", is_flag=True, help="Print the version.")
@click.pass_context
def pipe(ctx: click.Context, version: bool) -> None:
    """Welcome whoever gave no command; the rest is in the commands."""
    if version:
        from pipeline import __version__

        click.echo(f"pipe {__version__}")
    elif ctx.invoked_subcommand is None:
        _welcome()


def _complain(message: str, hint: str = "") -> None:
    # A definition's errors begin with file:line:column, which editors and terminals turn into links.
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
    for line in hint.splitlines():
        click.echo(f"  {line}", err=True)


def _complain_of_usage(error: click.UsageError) -> None:
    where = error.ctx.command_path if error.ctx else "pipe"
    _complain(error.format_message(), f"`{where} --help` tells what it understands")


def guard(work: Callable[[], object], arguments: Sequence[str], crashes: Path) -> int:
    """Do the work and return its exit code; print whatever goes wrong as a person should read it."""
    try:
        result = work()
        code = int(result) if isinstance(result, int) else Exit.DONE
        return code if _flushed() else _reader_left(code)
    except PipeError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    except click.UsageError as error:
        _complain_of_usage(error)
        return Exit.USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return Exit.ERRORED
    except (click.Abort, KeyboardInterrupt):
        click.echo("cancelled", err=True)
        return Exit.CANCELLED
    except BrokenPipeError:
        return _reader_left(Exit.DONE)
    except Exception as error:
        return _defect(error, arguments, crashes)


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True


def _reader_left(code: int) -> int:
    # `pipe logs | head`: the reader has what it wanted. Without this, Python complains while it exits.
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _defect(error: Exception, arguments: Sequence[str], crashes: Path) -> int:
    from pipeline.cli import crash

    path = crash.save(error, arguments, crashes)
    kept = f"the details are in {path}; please send that file with a report" if path else "the details were not kept"
    _complain(f"a defect of pipe itself: {crash.one_line(error)}", kept)
    return Exit.ERRORED


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code of `pipeline.cli.exits`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale that lacks our glyphs is no reason to die
    try:
        chosen = settings.load()
    except PipeError as error:
        _complain(error.message, error.hint)
        return error.exit_code
    colour = None if chosen.colour else False  # None: where there is a terminal

    def work() -> object:
        return pipe.main(args=list(arguments), prog_name="pipe", standalone_mode=False, obj=chosen, color=colour)

    return guard(work, arguments, chosen.home / "crashes")
