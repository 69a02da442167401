"""The command line `nightcrew`: its commands, put together."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from nightcrew_cli import help as help_page
from nightcrew_cli.commands import (
    apply,
    cancel,
    demo,
    doctor,
    jobs,
    local,
    logs,
    plan,
    ps,
    redrive,
    run,
    runs,
    schema,
    validate,
    version,
)
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.options import group

app = group(
    "Scheduled batch jobs on EC2 workers that exist only while there is work.\n\n"
    "Write a job file, look at it with plan, put it on the stack with apply; the stack runs it at each tick."
    " Global options may stand before or after the command.",
    epilog=help_page.block("Exit codes", (f"{code.value:>3}  {code.meaning}" for code in ExitCode)),
)
for module in (validate, plan, apply, schema, run, ps, logs, cancel, jobs, runs, doctor, redrive, local, demo, version):
    module.register(app)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A sign that the terminal cannot show must not end the program.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="nightcrew")


if __name__ == "__main__":
    main()
