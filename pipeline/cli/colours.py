"""Colour words of plain output; whole views have colours of their own."""

from __future__ import annotations

import click

_COLOURS = {"good": "green", "bad": "red", "warn": "yellow", "busy": "cyan"}


def painted(text: str, style: str) -> str:
    """Return the text in a style of the views' layouts (`good`, `dim`, `bold bad`, ...)."""
    words = style.split()
    colour = next((_COLOURS[word] for word in words if word in _COLOURS), None)
    return click.style(text, fg=colour, bold="bold" in words or None, dim="dim" in words or None) if words else text
