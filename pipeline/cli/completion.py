"""Print a shell's completion script. What is completed is told by the commands and by `names`."""

from __future__ import annotations

import click

from pipeline.cli.menu import command

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    examples="""
pipe completion bash >> ~/.bashrc
pipe completion zsh  > "${fpath[1]}/_pipe"
pipe completion fish > ~/.config/fish/completions/pipe.fish
""",
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    Commands and options are completed, and from the data: runs by number, stages by name, environments.
    """
    from click.shell_completion import get_completion_class

    from pipeline.cli.entry import pipe

    found = get_completion_class(shell)
    assert found is not None  # the choice above names only shells that click knows
    click.echo(found(pipe, {}, "pipe", "_PIPE_COMPLETE").source())
