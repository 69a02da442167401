"""What a command is about, said the same way by all of them."""

from __future__ import annotations

from typing import Annotated

import typer

JobName = Annotated[
    str, typer.Argument(metavar="JOB", help="Name of an applied job, or its unique beginning.", show_default=False)
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="Run id, its beginning, JOB, JOB@last or @last.", show_default=False)
]
