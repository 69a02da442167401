"""Runs as a list, and one run as its story: what happened when, on which worker, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from rich.console import RenderableType
from rich.text import Text

from nightcrew.domain.job import CapacityType
from nightcrew.domain.plan import Refusal
from nightcrew.domain.run import Attempt, Run
from nightcrew_cli.prices import PriceBook
from nightcrew_cli.view import text
from nightcrew_cli.view.tables import facts, heading, table


def run_table(runs: Iterable[Run], now: datetime) -> RenderableType:
    columns = ("RUN", "STATUS", "AGE", "TOOK>", "TRY>", "WORKER", "WHY")
    return table(columns, [_row(run, now) for run in runs])


def _row(run: Run, now: datetime) -> Sequence[str | Text]:
    worker = run.attempt.worker if run.attempt else None
    return (
        run.run_id,
        text.status(run.status),
        text.ago(run.created_at, now),
        text.clock(text.run_time(run, now)),
        str(len(run.attempts) or "-"),
        worker.instance_type if worker else "-",
        text.short(text.why(run), 60),
    )


def story(
    run: Run, now: datetime, *, prices: PriceBook, region: str, places: Sequence[tuple[str, str]] = ()
) -> list[RenderableType]:
    """Return the run's record as a person wants it."""
    parts: list[RenderableType] = [text.verdict(run, now), _summary(run, now, prices, region, places)]
    if run.attempts:
        parts += [heading("Attempts"), _attempts(run, now)]
        parts += _workers(run)
    refusals = [(attempt.number, refusal) for attempt in run.attempts for refusal in attempt.refusals]
    if refusals:
        parts += [heading("Refused launches"), _refusals(refusals)]
    parts += [heading("Timeline"), timeline(run)]
    return parts


def _summary(
    run: Run, now: datetime, prices: PriceBook, region: str, places: Sequence[tuple[str, str]]
) -> RenderableType:
    cost = estimate(run, now, prices, region)
    return facts(
        [
            ("job", f"{run.job.name}, revision {run.job.revision}"),
            ("trigger", f"{run.trigger}, tick {text.moment(run.scheduled_at)}"),
            ("deadline", f"{text.moment(run.deadline)} ({text.ago(run.deadline, now)})" if not run.ended_at else ""),
            ("next try", text.moment(run.retry_at) if run.retry_at else ""),
            ("exit code", _exit_code(run)),
            ("cost", cost),
            *places,
        ]
    )


def _exit_code(run: Run) -> str:
    code = run.attempt.exit_code if run.attempt else None
    return "" if code is None else str(code)


def _attempts(run: Run, now: datetime) -> RenderableType:
    rows = [
        (
            str(attempt.number),
            text.outcome(attempt.outcome) or "open",
            text.clock((attempt.ended_at or now) - attempt.created_at),
            attempt.worker.instance_id if attempt.worker else "-",
            attempt.worker.instance_type if attempt.worker else "-",
            attempt.worker.zone if attempt.worker else "-",
            attempt.worker.capacity_type if attempt.worker else "-",
            "-" if attempt.exit_code is None else str(attempt.exit_code),
            text.printable(attempt.message),
        )
        for attempt in run.attempts
    ]
    return table(("#>", "OUTCOME", "TOOK>", "WORKER", "TYPE", "ZONE", "CAPACITY", "EXIT>", "MESSAGE"), rows)


def _workers(run: Run) -> list[RenderableType]:
    addresses = [
        (f"worker {attempt.number}", ", ".join(filter(None, (f"private {worker.private_address}", _public(attempt)))))
        for attempt in run.attempts
        if (worker := attempt.worker) and worker.private_address
    ]
    return [facts(addresses)] if addresses else []


def _public(attempt: Attempt) -> str:
    return f"public {attempt.worker.public_address}" if attempt.worker and attempt.worker.public_address else ""


def _refusals(refusals: Sequence[tuple[int, Refusal]]) -> RenderableType:
    rows = [(str(number), refusal.pool, refusal.code, text.printable(refusal.message)) for number, refusal in refusals]
    return table(("#>", "POOL", "CODE", "MESSAGE"), rows)


def timeline(run: Run) -> RenderableType:
    """The history, with how long after the line before each one came."""
    rows, before = [], None
    for entry in run.history:
        step = "" if before is None else f"+{text.span(entry.at - before)}"
        rows.append((text.moment(entry.at), step, text.printable(entry.text)))
        before = entry.at
    return table(("TIME", "AFTER>", "WHAT"), rows)


def billed(attempt: Attempt, now: datetime) -> timedelta:
    """How long the attempt's worker has been paid for, as well as the record knows."""
    if attempt.launched_at is None:
        return timedelta()
    return (attempt.ended_at or now) - attempt.launched_at


def estimate(run: Run, now: datetime, prices: PriceBook, region: str) -> str:
    """Say what the workers cost; there are no Spot prices, so a Spot worker is counted as on-demand, "at most"."""
    costs: list[float | None] = []
    is_bound = False
    for attempt in run.attempts:
        if attempt.worker is None:
            continue
        costs.append(prices.cost(attempt.worker.instance_type, region, billed(attempt, now)))
        is_bound = is_bound or attempt.worker.capacity_type == CapacityType.SPOT
    if not costs:
        return "none: no worker was launched"
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return "unknown: the price list lacks this instance type or Region"
    bound = "at most " if is_bound else ""
    return (
        f"{bound}{text.dollars(sum(known))} estimated (on-demand, {region}, prices of {prices.date}, disk not counted)"
    )
