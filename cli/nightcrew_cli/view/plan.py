"""A job's plan: what would change, when it runs, which workers it would ask for, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from nightcrew.adapters.codec import encode
from nightcrew.domain import tags
from nightcrew.domain.job import Job
from nightcrew.domain.plan import LaunchRequest
from nightcrew.usecases.operate import Change, Difference
from nightcrew_cli.preview import Estimate, Preview
from nightcrew_cli.prices import PriceBook
from nightcrew_cli.view import jobs, text
from nightcrew_cli.view.tables import facts, heading, table

# Secret and drawn for each run: a preview could only show a wrong one.
_DRAWN = "(drawn for each run)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Everything that `plan` found out about one job."""

    file: str
    job: Job
    difference: Difference | None
    preview: Preview | None
    refusal: str
    ticks: Sequence[datetime]
    no_ticks: str
    warnings: Sequence[str]
    estimates: Sequence[Estimate]
    region: str


def plan_view(plan: JobPlan, prices: PriceBook, now: datetime) -> list[RenderableType]:
    job = plan.job
    parts: list[RenderableType] = [Text(f"{job.name}", style="bold").append(f"  revision {job.revision}  {plan.file}")]
    parts += _change(plan)
    parts += [Text(f"! {warning}", style="yellow") for warning in plan.warnings]
    parts += [heading(f"Next ticks  {jobs.schedule_words(job)}"), _ticks(plan, now)]
    parts += _launch(plan, prices)
    parts += [heading("Cost of a run"), *_costs(plan, prices)]
    return parts


def _change(plan: JobPlan) -> list[RenderableType]:
    if plan.difference is None:
        return [Text("? not compared with what is applied", style="yellow")]
    return list(jobs.difference_lines(plan.difference))


def _ticks(plan: JobPlan, now: datetime) -> RenderableType:
    timezone = plan.job.schedule.timezone if plan.job.schedule else "UTC"
    if not plan.ticks:
        return Text(plan.no_ticks)
    rows = [(text.local_moment(tick, timezone), text.moment(tick), text.ago(tick, now)) for tick in plan.ticks]
    return table(("LOCAL", "UTC", "WHEN"), rows)


def _launch(plan: JobPlan, prices: PriceBook) -> list[RenderableType]:
    if plan.preview is None:
        return [heading("Launch"), Text(f"✘ the launcher would refuse it: {plan.refusal}", style="red")]
    requests = plan.preview.requests
    how = "exactly as the launcher would ask" if plan.preview.is_exact else "without the stack's own values"
    first = requests[0]
    rows = [row for number, request in enumerate(requests, 1) for row in _pools(number, request, plan.region, prices)]
    return [
        heading(f"Launch  CreateFleet instant, {how}"),
        facts(
            [
                ("image", f"{first.image.image_id}, root device {first.image.root_device}"),
                ("disk", f"{first.disk_gib} GiB" if first.disk_gib else "the image's own size"),
                ("template", f"{first.template.template_id}, version {first.template.version}"),
                ("tags", Text("\n".join(f"{key}={value}" for key, value in _tags(first)))),
            ]
        ),
        table(("STEP>", "CAPACITY", "TYPE", "ZONE", "SUBNET", "ON-DEMAND/H>"), rows),
    ]


def _pools(number: int, request: LaunchRequest, region: str, prices: PriceBook) -> list[tuple[str, ...]]:
    return [
        (
            str(number),
            request.step.capacity_type.value,
            pool.instance_type,
            pool.zone,
            pool.subnet_id,
            text.dollars(prices.per_hour(pool.instance_type, region)),
        )
        for pool in request.step.pools
    ]


def _tags(request: LaunchRequest) -> list[tuple[str, str]]:
    return [(key, _DRAWN if key == tags.LAUNCH else value) for key, value in request.tags]


def _costs(plan: JobPlan, prices: PriceBook) -> list[RenderableType]:
    rows = [(item.label, text.span(item.duration), _range(item)) for item in plan.estimates]
    region = plan.region or "no Region known"
    note = f"estimated: on-demand, {region}, prices of {prices.date}, without disk; Spot costs less, by an unknown part"
    return [table(("", "WORKER TIME>", "USD>"), rows), Text(note, style="dim")]


def _range(item: Estimate) -> str:
    if item.lowest is None or item.highest is None or item.lowest == item.highest:
        return text.dollars(item.highest)
    return f"{text.dollars(item.lowest)} … {text.dollars(item.highest)}"


def plan_data(plan: JobPlan, prices: PriceBook) -> dict[str, Any]:
    return {
        "job": plan.job.name,
        "file": plan.file,
        "revision": plan.job.revision,
        "change": plan.difference.change.value if plan.difference else None,
        "difference": jobs.difference_data(plan.difference) if plan.difference else None,
        "ticks": [encode(tick) for tick in plan.ticks],
        "warnings": list(plan.warnings),
        "is_exact": bool(plan.preview and plan.preview.is_exact),
        "refusal": plan.refusal or None,
        "launch": [_request_data(request) for request in plan.preview.requests] if plan.preview else [],
        "estimated_cost": {
            "currency": "USD",
            "region": plan.region or None,
            "prices_of": prices.date,
            "per_hour": {name: prices.per_hour(name, plan.region) for name in plan.job.compute.instance_types},
            "runs": [
                {
                    "label": item.label,
                    "seconds": int(item.duration.total_seconds()),
                    "lowest": item.lowest,
                    "highest": item.highest,
                }
                for item in plan.estimates
            ],
        },
    }


def _request_data(request: LaunchRequest) -> dict[str, Any]:
    return {**encode(request), "launch": _DRAWN, "tags": dict(_tags(request))}


def changes_line(differences: Sequence[Difference]) -> str:
    """Return the count of each kind of change: 1 to create, 2 unchanged."""
    counts = {change: sum(1 for item in differences if item.change is change) for change in Change}
    words = [f"{count} to {change}" for change, count in counts.items() if count and change is not Change.NONE]
    unchanged = counts[Change.NONE]
    return ", ".join([*words, *([f"{unchanged} unchanged"] if unchanged else [])]) or "nothing to apply"
