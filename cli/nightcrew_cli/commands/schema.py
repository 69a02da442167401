"""schema: the format of job files, for editors."""

from __future__ import annotations

import typer

from nightcrew_cli.commands.jobfiles import PANEL
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command


def register(app: typer.Typer) -> None:
    command(app, "schema", panel=PANEL, examples=["nightcrew schema > job.schema.json"])(schema)


def schema(invocation: Invocation) -> None:
    """Print the JSON Schema of job files, for editors.

    Put "# yaml-language-server: $schema=job.schema.json" at the top of a job file.
    """
    import json

    from nightcrew_cli.jobfile.model import schema as job_schema

    invocation.out.file.write(json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n")
