"""Envelopes of EventBridge and inputs of the functions, parsed once, at the edge.

A parser returns None (or nothing) for what it does not know; only what looks like ours and is broken is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from nightcrew.domain.run import Trigger
from nightcrew.domain.sweep import WorkerState
from nightcrew.usecases.launch import Tick
from nightcrew.usecases.watch import Advice, CancelAsked, Fact, InterruptionNotice, ResultAnnounced, StateChanged

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_RESULT_KEY = re.compile(r"workers/[A-Za-z0-9]+:(i-[0-9a-f]{8,17})/[0-9a-f]{32}/result\.json")
_STATES = {state.value: state for state in WorkerState}


class EnvelopeError(ValueError):
    """The input of a function is not one that Nightcrew sends."""


def parse_tick(payload: Mapping[str, Any]) -> Tick:
    """Parse what Scheduler or the command line sends to the launcher. Raises EnvelopeError."""
    try:
        job, revision, time = payload["job"], payload["revision"], payload["scheduled_time"]
        scheduled_at = datetime.fromisoformat(time)
        trigger = Trigger(payload.get("trigger", Trigger.SCHEDULE))
        # One tick has one name: the run id is made of the time as it is in UTC.
        in_utc = scheduled_at.astimezone(UTC)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise EnvelopeError(f"not a tick: {error!r}; expected job, revision and scheduled_time") from error
    if not isinstance(job, str) or not isinstance(revision, str) or scheduled_at.tzinfo is None:
        raise EnvelopeError("not a tick: job and revision are texts, scheduled_time has a time zone")
    return Tick(job=job, revision=revision, scheduled_at=in_utc, trigger=trigger)


def parse_facts(envelope: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Return what an EventBridge envelope says about instances or runs; nothing for what is not ours to know.

    Raises EnvelopeError for what is no envelope at all.
    """
    if not isinstance(envelope, Mapping):
        raise EnvelopeError(f"not an envelope of EventBridge: {type(envelope).__name__} instead of an object")
    detail = envelope.get("detail")
    if not isinstance(detail, Mapping):
        return ()
    match envelope.get("source"), envelope.get("detail-type"):
        case "aws.ec2", str(kind):
            return _ec2_facts(kind, detail)
        case "aws.s3", "Object Created":
            return _object_facts(detail)
        case "aws.health", "AWS Health Event":
            return _health_facts(detail)
        case "nightcrew", "Cancel Requested":
            return _cancel_facts(detail)
        case _:
            return ()


def _ec2_facts(kind: str, detail: Mapping[str, Any]) -> tuple[Fact, ...]:
    # Never `resources`: AWS's own samples disagree about its form.
    instance_id = detail.get("instance-id")
    if not _is_instance_id(instance_id):
        return ()
    match kind:
        case "EC2 Instance State-change Notification":
            state = _STATES.get(str(detail.get("state")))
            return (StateChanged(instance_id, state),) if state else ()
        case "EC2 Spot Instance Interruption Warning":
            return (InterruptionNotice(instance_id, str(detail.get("instance-action", "terminate"))),)
        case "EC2 Instance Rebalance Recommendation":
            return (Advice(instance_id, "EC2 recommends to rebalance: higher risk of interruption"),)
        case _:
            return ()


def _object_facts(detail: Mapping[str, Any]) -> tuple[Fact, ...]:
    created = detail.get("object")
    key = created.get("key") if isinstance(created, Mapping) else None
    found = _RESULT_KEY.fullmatch(key) if isinstance(key, str) else None
    return (ResultAnnounced(found[1]),) if found else ()


def _health_facts(detail: Mapping[str, Any]) -> tuple[Fact, ...]:
    if detail.get("service") != "EC2":
        return ()
    text = f"AWS Health: {detail.get('eventTypeCode', 'event')} starting {detail.get('startTime', 'unknown')}"
    entities = detail.get("affectedEntities")
    listed = entities if isinstance(entities, list) else []
    ids = [entity.get("entityValue") for entity in listed if isinstance(entity, Mapping)]
    return tuple(Advice(instance_id, text) for instance_id in ids if _is_instance_id(instance_id))


def _cancel_facts(detail: Mapping[str, Any]) -> tuple[Fact, ...]:
    run_id, by = detail.get("run_id"), detail.get("by")
    return (CancelAsked(run_id, str(by or "unknown")),) if isinstance(run_id, str) and run_id else ()


def _is_instance_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _INSTANCE_ID.fullmatch(value) is not None
