"""The commands by name, and the click group that imports one only when it is used.

The short texts stand here so that `pipe --help` imports no command at all; a test keeps
them equal to what the commands say of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import click

# section -> command -> (module in this package, what it is for)
SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Write a pipeline": {
        "init": ("definitions", "Look at this repository and write a pipe.yml for it."),
        "lint": ("definitions", "Check definitions, offline; all errors at once."),
        "graph": ("graphs", "Draw the stages and what they wait for."),
        "explain": ("definitions", "Tell why a stage would run, or why not."),
        "schema": ("definitions", "Print the JSON Schema of pipe.yml, for editors."),
    },
    "Run it": {
        "run": ("running", "Run the pipeline of this directory, here and now."),
        "runs": ("records", "List the latest runs."),
        "show": ("records", "Show one run: stages, tests, images, artifacts."),
        "logs": ("records", "Print what the stages of a run wrote."),
        "cancel": ("steering", "Cancel a run and end its containers."),
        "retry": ("running", "Run again, wholly or only what failed."),
        "shell": ("shells", "Open a shell in a stage's image and workspace."),
    },
    "Release it": {
        "env": ("releases", "Show what is live where, since when, by which run."),
        "promote": ("releases", "Put a run's image live in an environment."),
        "rollback": ("releases", "Go back to the release before, in one step."),
        "approve": ("steering", "Approve a promotion that waits for a decision."),
        "reject": ("steering", "Reject a promotion that waits for a decision."),
    },
    "Keep the house": {
        "doctor": ("machine", "Check this machine and say how to mend it."),
        "gc": ("machine", "Remove what runs left behind and is no longer needed."),
        "image": ("carrying", "Carry images to hosts without a registry."),
        "completion": ("completion", "Print the completion script for a shell."),
    },
}
COMMANDS = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Menu(click.Group):
    """A group whose commands live in modules of their own, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name, in the order of the sections."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pipeline.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or raise a usage error that names those it resembles."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, without importing any of them."""
        width = max(len(name) for name in COMMANDS)
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete command names without importing any of them."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(n, help=text) for n, (_, text) in COMMANDS.items() if n.startswith(incomplete)]
        return found or click.Command.shell_complete(self, ctx, incomplete)


class Described(click.Command):
    """A command whose help ends with examples, kept line by line as they are written."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples.strip().splitlines()))


def command(name: str, *, examples: str = "", **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command of the menu, with examples under its help."""
    made: Callable[[Callable[..., Any]], click.Command] = click.command(
        name,
        cls=Described,
        examples=examples,
        short_help=COMMANDS[name][1],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **attributes,
    )
    return made
