"""What the state of a stack's parts means for whoever wants to sleep. What cannot be told is unknown, never fine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination: what is seen, what it means, and the command that comes next."""

    check: str
    health: Health
    text: str
    meaning: str = ""
    command: str = ""
    leaks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`skew` is how far this machine's clock is ahead of AWS's."""

    arn: str
    region: str
    skew: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """`missing` are outputs that a stack of this version has; `version` is empty when the stack tells none."""

    status: str
    reason: str = ""
    missing: tuple[str, ...] = ()
    created_at: datetime | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class TableState:
    status: str
    has_recovery: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """When a sweep last completed by its metric, which the alarms watch, and by its log."""

    name: str
    by_metric: datetime | None
    by_log: datetime | None


@dataclass(frozen=True, slots=True)
class AlarmState:
    """An alarm of the stack; `state` is empty when CloudWatch does not have it."""

    name: str
    state: str
    reason: str = ""


# Signed requests are refused from five minutes on (S3: fifteen).
_SKEW_NOTED, _SKEW_REFUSED = timedelta(seconds=30), timedelta(minutes=4)
# Three times the sweep's own period, and some minutes until CloudWatch shows a metric.
SWEEP_LIMITS = {"due": timedelta(minutes=8), "inventory": timedelta(minutes=35)}
_STEADY = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}


def identity(seen: Identity) -> Iterator[Finding]:
    yield Finding(check="identity", health=Health.OK, text=f"{seen.arn} in {seen.region}")
    skew = seen.skew
    if skew is None:
        yield Finding(check="clock", health=Health.UNKNOWN, text="AWS's answer bore no date")
        return
    health = Health.OK if abs(skew) < _SKEW_NOTED else Health.WARN if abs(skew) < _SKEW_REFUSED else Health.FAIL
    direction = "ahead of" if skew > timedelta() else "behind"
    is_off = health is not Health.OK
    yield Finding(
        check="clock",
        health=health,
        text=f"{abs(skew).total_seconds():.0f} s {direction} AWS" if is_off else "agrees with AWS",
        meaning="AWS refuses requests of a clock that is five minutes off" if is_off else "",
        command="timedatectl set-ntp true" if is_off else "",
    )


def stack(name: str, seen: StackState | None, deploy: str) -> Iterator[Finding]:
    if seen is None:
        yield Finding(check="stack", health=Health.FAIL, text=f"there is no stack {name!r} here", command=deploy)
        return
    yield _status(name, seen, deploy)
    if seen.missing:
        yield Finding(
            check="stack",
            health=Health.FAIL,
            text=f"it lacks the outputs {', '.join(seen.missing)}",
            meaning="it is of another version, or not a stack of Nightcrew",
            command=deploy,
        )


def _status(name: str, seen: StackState, deploy: str) -> Finding:
    told = f"{name} is {seen.status}" + (f": {seen.reason}" if seen.reason else "")
    if seen.status in _STEADY:
        return Finding(check="stack", health=Health.OK, text=told)
    if seen.status == "UPDATE_ROLLBACK_COMPLETE":
        meaning = "the last deployment failed and was taken back: the stack works as it was before"
        return Finding(check="stack", health=Health.WARN, text=told, meaning=meaning, command=deploy)
    if seen.status.endswith("_IN_PROGRESS"):
        meaning = "it is being changed; look again when that is done"
        return Finding(check="stack", health=Health.WARN, text=told, meaning=meaning, command="nightcrew doctor")
    meaning = "parts of it may be missing; runs and sweeps cannot be relied on"
    return Finding(check="stack", health=Health.FAIL, text=told, meaning=meaning, command=deploy)


def version(own: str, seen: StackState | None, deploy: str) -> Iterator[Finding]:
    """Compare the command line with the stack; a stack that tells no version is not held against anybody."""
    if seen is None:
        return
    if seen.version == own:
        yield Finding(check="version", health=Health.OK, text=f"command line and stack are both {own}")
        return
    told = f"is {seen.version}" if seen.version else "does not tell its version"
    yield Finding(
        check="version",
        health=Health.WARN,
        text=f"the command line is {own}, the stack {told}",
        meaning="they may not read each other's records; deploy with the version that you use",
        command=deploy,
    )


def table(name: str, seen: TableState, aws: str) -> Iterator[Finding]:
    is_ready = seen.status in {"ACTIVE", "UPDATING"}
    yield Finding(
        check="table",
        health=Health.OK if is_ready else Health.FAIL,
        text=f"{name} is {seen.status}",
        meaning="" if is_ready else "runs cannot be recorded, so none is launched",
    )
    if not seen.has_recovery:
        yield Finding(
            check="table",
            health=Health.WARN,
            text="point-in-time recovery is off",
            meaning="a table that is lost can be rebuilt from tags and rosters only",
            command=f"{aws} dynamodb update-continuous-backups --table-name {name} "
            "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
        )


def sweep(seen: SweepState, now: datetime, created_at: datetime | None, log_command: str) -> Iterator[Finding]:
    """A reaper that is silent is not fine: nothing else would end a worker whose events are lost."""
    longest, newest = SWEEP_LIMITS[seen.name], max(filter(None, (seen.by_metric, seen.by_log)), default=None)
    name = f"{seen.name} sweep"
    if newest is not None and now - newest <= longest:
        text = f"the {name} completed {_span(now - newest)} ago"
        if seen.by_metric is not None:
            yield Finding(check="reaper", health=Health.OK, text=text)
            return
        meaning = "only its log says so: CloudWatch has no metric of it, so its alarms see nothing"
        yield Finding(check="reaper", health=Health.WARN, text=text, meaning=meaning)
        return
    if newest is None and created_at is not None and now - created_at <= longest:
        text = f"the {name} has not completed yet; the stack is {_span(now - created_at)} old"
        yield Finding(check="reaper", health=Health.WARN, text=text, command="nightcrew doctor, some minutes later")
        return
    last = f"completed {_span(now - newest)} ago" if newest else "has not completed within three hours"
    yield Finding(
        check="reaper",
        health=Health.FAIL,
        text=f"the {name} {last}",
        meaning="late runs and leaked workers are not ended by us; only the workers' own timers are left",
        command=log_command,
    )


def alarms(seen: Sequence[AlarmState]) -> Iterator[Finding]:
    groups = {state: [alarm for alarm in seen if alarm.state == state] for state in ("ALARM", "INSUFFICIENT_DATA", "")}
    for alarm in groups["ALARM"]:
        yield Finding(
            check="alarms",
            health=Health.FAIL,
            text=f"{alarm.name} is in ALARM: {alarm.reason}",
            meaning="docs/recovery.md says what each alarm means",
        )
    if groups["INSUFFICIENT_DATA"]:
        meaning = "normal for some minutes after a deployment; later it means that nobody watches"
        yield _alarm_group(groups["INSUFFICIENT_DATA"], Health.WARN, "without data yet", meaning)
    if groups[""]:
        meaning = "somebody deleted them: what they watched fails unseen"
        yield _alarm_group(groups[""], Health.FAIL, "missing", meaning)
    if not seen:
        yield Finding(check="alarms", health=Health.FAIL, text="the stack has none", meaning="it fails unseen")
    elif not any(groups.values()):
        yield Finding(check="alarms", health=Health.OK, text=f"all {len(seen)} are OK")


def _alarm_group(group: Iterable[AlarmState], health: Health, what: str, meaning: str) -> Finding:
    names = sorted(alarm.name for alarm in group)
    return Finding(check="alarms", health=health, text=f"{len(names)} {what}: {', '.join(names)}", meaning=meaning)


def dead_letters(depths: Mapping[str, int]) -> Iterator[Finding]:
    filled = {name: depth for name, depth in depths.items() if depth}
    if not filled:
        yield Finding(check="dead letters", health=Health.OK, text="none")
        return
    yield Finding(
        check="dead letters",
        health=Health.FAIL,
        text=", ".join(f"{depth} in {name}" for name, depth in filled.items()),
        meaning="ticks, retries or events that failed for good; the sweeps do the events' work, but not the ticks'",
        command="nightcrew redrive --dry-run, then nightcrew redrive",
    )


def _span(duration: timedelta) -> str:
    seconds = max(0, int(duration.total_seconds()))
    hours, minutes = divmod(seconds // 60, 60)
    if not minutes and not hours:
        return f"{seconds} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
