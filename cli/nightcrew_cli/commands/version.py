"""version: which Nightcrew this is."""

from __future__ import annotations

import typer

from nightcrew_cli.commands.local import PANEL
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command


def register(app: typer.Typer) -> None:
    command(app, "version", panel=PANEL, examples=["nightcrew version", "nightcrew version -o json"])(version)


def version(invocation: Invocation) -> None:
    """Print the version."""
    import platform
    from importlib import metadata

    number = metadata.version("nightcrew")
    python = platform.python_version()
    invocation.show(f"nightcrew {number} (Python {python})", {"nightcrew": number, "python": python})
