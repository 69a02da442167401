"""The command: builds the functions, calls each with its event files, prints a line for each, counts."""

# ruff: noqa: T201, TID251 - a command prints and reads its environment

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sam_local.cases import Case, find_differences, load_cases
from sam_local.engine import bridge_address, running_engine
from sam_local.errors import NotPossibleHereError, SamLocalError
from sam_local.functions import Functions, build, find_sam
from sam_local.image import prepare_image
from sam_local.stack import LocalStack, running_stack

FAILED, SKIPPED = 1, 3
DEPLOYED_RUNTIME = "python3.13"
LOG_LINES, LOG_WIDTH = 30, 400
# The functions' variables for the events that touch no AWS; its endpoint is a port where nothing listens.
ALONE = "environment.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    case: Case
    seconds: float
    problems: tuple[str, ...]
    log: str

    def show(self) -> None:
        print(f"{'FAIL' if self.problems else 'PASS'} {self.case.name} {self.seconds:.1f}s")
        if self.problems:
            for line in (*self.problems, *(f"| {line}" for line in self.log.strip().splitlines()[-LOG_LINES:])):
                print(f"     {line[:LOG_WIDTH]}")
        sys.stdout.flush()


def main() -> int:
    options = _options()
    try:
        verdicts = _run_all(options)
    except NotPossibleHereError as error:
        print(f"sam-local: SKIPPED: {error}", file=sys.stderr)
        return SKIPPED
    except SamLocalError as error:
        print(f"sam-local: {error}", file=sys.stderr)
        return FAILED
    failed = sum(bool(verdict.problems) for verdict in verdicts)
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return FAILED if failed or not verdicts else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sam_local.sh", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="only these files, as in 'lifecycle/*'")
    parser.add_argument("--no-stack", action="store_true", help="leave out the events that need the local stack")
    parser.add_argument(
        "--install",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="install and start Docker and make a base image if need be (root on Debian; the default with CI=true)",
    )
    parser.add_argument("--template", type=Path, default=Path("template.yaml"))
    parser.add_argument("--events", type=Path, default=Path("events"))
    return parser.parse_args()


def _run_all(options: argparse.Namespace) -> list[Verdict]:
    template = options.template.resolve()
    folder = template.parent / ".aws-sam" / "local-invoke"
    cases = [case for case in load_cases(options.events.resolve()) if _is_wanted(case, options)]
    sam = find_sam(template.parent)
    with ExitStack() as held:
        held.enter_context(running_engine(folder / "dockerd.log", may_install=options.install))
        image = prepare_image(DEPLOYED_RUNTIME, may_make=options.install)
        host_address = bridge_address()
        print(f"building for {image.runtime} on {image.architecture}", flush=True)
        functions = build(sam, template, folder / "build", image, host_address)
        if unknown := {case.function for case in cases} - functions.logical_ids.keys():
            raise SamLocalError(f"the template has no function called {', '.join(sorted(unknown))}")
        verdicts = _run_alone(
            functions, [case for case in cases if not case.needs_stack], options.events.resolve() / ALONE
        )
        if with_stack := [case for case in cases if case.needs_stack]:
            stack = held.enter_context(running_stack(host_address))
            variables = {name: _write_variables(functions, stack, name) for name in functions.logical_ids}
            verdicts += [_check(functions, case, variables[case.function]) for case in with_stack]
    return verdicts


def _write_variables(functions: Functions, stack: LocalStack, function: str) -> Path:
    logical_id = functions.logical_ids[function]
    path = functions.template.with_name(f"environment-{function}.json")
    path.write_text(json.dumps({logical_id: stack.variables_of(logical_id)}), "utf-8")
    return path


def _is_wanted(case: Case, options: argparse.Namespace) -> bool:
    if options.no_stack and case.needs_stack:
        return False
    return not options.patterns or any(fnmatch(case.name, pattern) for pattern in options.patterns)


def _run_alone(functions: Functions, cases: Sequence[Case], variables: Path) -> list[Verdict]:
    """Run the cases that touch nothing shared, a few at a time: most of a call is the container's start."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda case: _check(functions, case, variables), cases))


def _check(functions: Functions, case: Case, variables: Path) -> Verdict:
    started = time.monotonic()
    reply = functions.invoke(case.function, case.event, variables)
    problems = tuple(find_differences(case.answer, reply.answer))
    verdict = Verdict(case, time.monotonic() - started, problems, reply.log)
    verdict.show()
    return verdict


if __name__ == "__main__":
    sys.exit(main())
