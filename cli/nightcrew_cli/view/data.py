"""Runs, jobs and plans as JSON, with absolute times and without what nobody else should know."""

from __future__ import annotations

from typing import Any

from nightcrew.adapters.codec import encode
from nightcrew.domain.job import Job
from nightcrew.domain.run import Run


def job(value: Job) -> dict[str, Any]:
    return {"revision": value.revision, **value.to_json()}


def run(value: Run) -> dict[str, Any]:
    """The whole record, but for its nonce: who knows that can guess the names of launches to come."""
    record: dict[str, Any] = encode(value)
    return {key: item for key, item in record.items() if key != "nonce"}


def short_run(value: Run) -> dict[str, Any]:
    """What a list shows of a run."""
    worker = value.attempt.worker if value.attempt else None
    return {
        "run_id": value.run_id,
        "job": value.job.name,
        "status": value.status.value,
        "outcome": value.outcome.value if value.outcome else None,
        "message": value.message,
        "trigger": value.trigger.value,
        "scheduled_at": encode(value.scheduled_at),
        "created_at": encode(value.created_at),
        "ended_at": encode(value.ended_at) if value.ended_at else None,
        "attempts": len(value.attempts),
        "exit_code": value.attempt.exit_code if value.attempt else None,
        "instance_id": worker.instance_id if worker else None,
        "instance_type": worker.instance_type if worker else None,
    }
