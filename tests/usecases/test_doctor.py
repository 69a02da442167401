"""What the doctor concludes: nothing is fine that could not be looked at, and each finding says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.domain.job import Job, JobSchedule
from nightcrew.domain.plan import worker_tags
from nightcrew.domain.run import Run
from nightcrew.domain.sweep import SeenWorker, WorkerState
from nightcrew.usecases import diagnosis, doctor
from nightcrew.usecases.diagnosis import AlarmState, Finding, Health, Identity, StackState, SweepState, TableState
from nightcrew.usecases.doctor import Check, Explanation
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.operate import ScheduleRecord, ScheduleTarget, desired_schedule
from nightcrew.usecases.rebuild import LostRun, Survey, Unrecoverable
from tests.builders import LIMITS, NOW, launched, make_job, make_run

TARGET = ScheduleTarget(launcher="arn:launcher", role="arn:role", dead_letters="arn:dlq")
AWS = "aws --region eu-west-1"


def healths(findings: Iterable[Finding]) -> list[Health]:
    return [finding.health for finding in findings]


def one(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    return finding


# ---- The examination ---------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_made_is_unknown_and_stops_no_other() -> None:
    def failing() -> Iterator[Finding]:
        yield Finding(check="table", health=Health.OK, text="so far so good")
        raise UnreadableError("denied")

    checks = [
        Check("table", failing),
        Check("bucket", lambda: [Finding(check="bucket", health=Health.OK, text="there")]),
    ]

    found = list(doctor.examine(checks, lambda error: Explanation(str(error), "log in")))

    assert healths(found) == [Health.OK, Health.UNKNOWN, Health.OK]
    assert (found[1].check, found[1].text, found[1].command) == ("table", "denied", "log in")


# ---- The parts of the stack --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "health"),
    [(0, Health.OK), (-20, Health.OK), (60, Health.WARN), (-60, Health.WARN), (300, Health.FAIL), (None, "unknown")],
)
def test_a_clock_that_is_off_is_told_before_aws_refuses_it(seconds: int | None, health: Health) -> None:
    skew = None if seconds is None else timedelta(seconds=seconds)

    who, clock = diagnosis.identity(Identity(arn="arn:ann", region="eu-west-1", skew=skew))

    assert (who.health, clock.health) == (Health.OK, health)


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ("CREATE_COMPLETE", Health.OK),
        ("UPDATE_COMPLETE", Health.OK),
        ("UPDATE_ROLLBACK_COMPLETE", Health.WARN),
        ("UPDATE_IN_PROGRESS", Health.WARN),
        ("UPDATE_ROLLBACK_FAILED", Health.FAIL),
        ("ROLLBACK_COMPLETE", Health.FAIL),
        ("DELETE_FAILED", Health.FAIL),
    ],
)
def test_the_status_of_the_stack_says_whether_it_works(status: str, health: Health) -> None:
    finding = one(diagnosis.stack("nightcrew", StackState(status=status), "sam deploy"))

    assert finding.health is health
    assert bool(finding.command) == (health is not Health.OK)


def test_a_stack_that_is_not_there_or_lacks_outputs_fails_with_the_way_to_get_one() -> None:
    absent = one(diagnosis.stack("nightcrew", None, "sam deploy"))
    _, lacking = diagnosis.stack(
        "nightcrew", StackState(status="CREATE_COMPLETE", missing=("TableName",)), "sam deploy"
    )

    assert (absent.health, absent.command) == (Health.FAIL, "sam deploy")
    assert "TableName" in lacking.text


@pytest.mark.parametrize(("version", "health"), [("0.1.0", Health.OK), ("0.2.0", Health.WARN), ("", Health.WARN)])
def test_command_line_and_stack_are_compared(version: str, health: Health) -> None:
    state = StackState(status="CREATE_COMPLETE", version=version)

    assert healths(diagnosis.version("0.1.0", state, "sam deploy")) == [health]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TableState("ACTIVE", True), [Health.OK]),
        (TableState("ACTIVE", False), [Health.OK, Health.WARN]),
        (TableState("ARCHIVED", True), [Health.FAIL]),
    ],
)
def test_the_table_must_be_there_and_should_be_recoverable(state: TableState, expected: list[Health]) -> None:
    assert healths(diagnosis.table("records", state, AWS)) == expected


@pytest.mark.parametrize(
    ("by_metric", "by_log", "age", "health"),
    [
        (2, None, 600, Health.OK),
        (None, 2, 600, Health.WARN),
        (20, None, 600, Health.FAIL),
        (None, 20, 600, Health.FAIL),
        (None, None, 600, Health.FAIL),
        (None, None, None, Health.FAIL),
        (None, None, 3, Health.WARN),
    ],
)
def test_a_silent_reaper_is_never_fine(
    by_metric: int | None, by_log: int | None, age: int | None, health: Health
) -> None:
    def before(minutes: int | None) -> Any:
        return None if minutes is None else NOW - timedelta(minutes=minutes)

    state = SweepState(name="due", by_metric=before(by_metric), by_log=before(by_log))

    assert one(diagnosis.sweep(state, NOW, before(age), "logs tail")).health is health


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["OK", "OK"], [Health.OK]),
        (["ALARM", "OK"], [Health.FAIL]),
        (["INSUFFICIENT_DATA", "OK"], [Health.WARN]),
        (["", "OK"], [Health.FAIL]),
        (["ALARM", "ALARM", "INSUFFICIENT_DATA", ""], [Health.FAIL, Health.FAIL, Health.WARN, Health.FAIL]),
        ([], [Health.FAIL]),
    ],
)
def test_every_alarm_must_be_there_and_quiet(states: list[str], expected: list[Health]) -> None:
    assert healths(diagnosis.alarms([AlarmState(f"Alarm{n}", state) for n, state in enumerate(states)])) == expected


def test_dead_letters_lead_to_redrive() -> None:
    filled = one(diagnosis.dead_letters({"lifecycle": 2, "undelivered": 0}))

    assert (filled.health, filled.text) == (Health.FAIL, "2 in lifecycle")
    assert "nightcrew redrive" in filled.command
    assert one(diagnosis.dead_letters({"lifecycle": 0})).health is Health.OK


# ---- Schedules ---------------------------------------------------------------------------------------------


@dataclass
class Jobs:
    applied: list[Job]
    revisions: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.revisions |= {(job.name, job.revision) for job in self.applied}

    def current(self, name: str) -> Job | None:
        return next((job for job in self.applied if job.name == name), None)

    def all_current(self) -> list[Job]:
        return self.applied

    def get(self, name: str, revision: str) -> object | None:
        return True if (name, revision) in self.revisions else None

    put = remove = None


JOB = make_job(schedule=JobSchedule(expressions=("cron(30 2 * * ? *)",)))


def schedule_of(job: Job = JOB, **changes: Any) -> ScheduleRecord:
    wanted = desired_schedule(job, TARGET)
    assert wanted is not None
    return replace(wanted, **changes)


def judged(
    found: list[ScheduleRecord], applied: list[Job], restorable: frozenset[str] = frozenset()
) -> list[tuple[Health, str]]:
    jobs: Any = Jobs(applied)
    return [(f.health, f.command) for f in doctor.schedules(found, jobs, TARGET, restorable)]


APPLY = "nightcrew apply jobs/"


def test_schedules_that_are_as_applied_are_fine() -> None:
    assert judged([schedule_of()], [JOB, make_job(name="by-hand")]) == [(Health.OK, "")]


@pytest.mark.parametrize(
    ("found", "applied", "expected"),
    [
        pytest.param([], [JOB], [(Health.FAIL, APPLY)], id="missing"),
        pytest.param([schedule_of(is_enabled=False)], [JOB], [(Health.FAIL, APPLY)], id="disabled by hand"),
        pytest.param([schedule_of(timezone="Europe/Berlin")], [JOB], [(Health.WARN, APPLY)], id="changed by hand"),
        pytest.param([schedule_of()], [replace(JOB, schedule=None)], [(Health.FAIL, APPLY)] * 2, id="not wanted"),
        pytest.param([schedule_of()], [], [(Health.FAIL, APPLY)], id="of a job that is not applied"),
        pytest.param(
            [schedule_of(replace(JOB, command="older"))],
            [JOB],
            [(Health.WARN, APPLY), (Health.FAIL, APPLY)],
            id="names a revision without a record",
        ),
    ],
)
def test_a_schedule_that_would_not_do_what_was_applied_is_told(
    found: list[ScheduleRecord], applied: list[Job], expected: list[tuple[Health, str]]
) -> None:
    assert judged(found, applied) == expected


def test_a_job_that_rosters_still_tell_is_rebuilt_and_not_applied() -> None:
    assert judged([schedule_of()], [], frozenset({JOB.name})) == [(Health.FAIL, "nightcrew doctor --fix")]


# ---- Workers, runs and records -----------------------------------------------------------------------------


@dataclass
class Runs:
    kept: dict[str, Run]
    unreadable: bool = False

    def get_many(self, run_ids: Iterable[str]) -> Mapping[str, Run | None]:
        if self.unreadable:
            raise UnreadableError("table cannot be reached")
        return {run_id: self.kept.get(run_id) for run_id in run_ids}

    def open(self) -> list[Run]:
        return list(self.kept.values())


def seen_of(run: Run, instance_id: str = "i-00000001") -> SeenWorker:
    assert run.attempt is not None
    tags = worker_tags(
        run.job, stack="nightcrew", run_id=run.run_id, attempt=1, launch=run.attempt.launch, deadline=run.deadline
    )
    return SeenWorker(instance_id=instance_id, state=WorkerState.RUNNING, launched_at=NOW, tags=dict(tags))


def examined(
    seen: list[SeenWorker], runs: Runs, rebuildable: frozenset[str] = frozenset(), **after: float
) -> list[Finding]:
    now = NOW + timedelta(**after)
    return list(doctor.workers(seen, lambda: runs, rebuildable, now=now, limits=LIMITS, aws=AWS))


def test_workers_that_their_records_know_are_fine() -> None:
    run = launched(make_run())

    finding = one(examined([seen_of(run)], Runs({run.run_id: run}), hours=1))

    assert (finding.health, finding.text) == (Health.OK, "1 are there, none that should not be")


def test_a_worker_past_its_deadline_is_a_leak_whatever_else_cannot_be_read() -> None:
    run = make_run()

    leak, unknown = examined([seen_of(run)], Runs({}, unreadable=True), hours=6)

    assert (leak.health, leak.leaks) == (Health.FAIL, 1)
    assert leak.command.endswith(f"{AWS} ec2 terminate-instances --instance-ids i-00000001")
    assert unknown.health is Health.UNKNOWN


def test_without_records_nothing_is_said_to_be_fine() -> None:
    assert healths(examined([], Runs({}))) == [Health.OK]
    assert healths(examined([seen_of(make_run())], Runs({}, unreadable=True), hours=1)) == [Health.UNKNOWN]


def test_a_worker_without_a_record_is_a_leak_unless_it_can_be_rebuilt() -> None:
    seen = [seen_of(make_run())]

    assert sum(f.leaks for f in examined(seen, Runs({}), hours=1)) == 1
    assert sum(f.leaks for f in examined(seen, Runs({}), frozenset({"i-00000001"}), hours=1)) == 0


def test_a_run_that_is_open_long_past_its_deadline_is_stuck() -> None:
    run = launched(make_run())
    runs = Runs({run.run_id: run})

    fine = one(doctor.open_runs(runs, run.deadline))
    stuck = one(doctor.open_runs(runs, run.deadline + timedelta(minutes=10)))

    assert (fine.health, stuck.health) == (Health.OK, Health.FAIL)
    assert stuck.command == f"nightcrew runs show {run.run_id}"


def test_lost_records_lead_to_the_repair() -> None:
    survey = Survey(runs=(LostRun(make_run(), "i-1"),), unrecoverable=(Unrecoverable("i-2", "it has no roster"),))

    lost, gone = doctor.lost_records(survey, 48)

    assert (lost.health, lost.command) == (Health.FAIL, "nightcrew doctor --fix")
    assert (gone.health, gone.text) == (Health.FAIL, "i-2: it has no roster")
    assert one(doctor.lost_records(Survey(unread=3), 48)).health is Health.OK


@given(
    minutes=st.integers(min_value=0, max_value=60 * 24 * 30),
    has_record=st.booleans(),
    unreadable=st.booleans(),
    has_worker=st.booleans(),
)
def test_all_is_well_only_when_everything_could_be_told(
    minutes: int, has_record: bool, unreadable: bool, has_worker: bool
) -> None:
    run = launched(make_run())
    runs = Runs({run.run_id: run} if has_record else {}, unreadable=unreadable)

    found = examined([seen_of(run)] if has_worker else [], runs, minutes=minutes)

    told = not (has_worker and unreadable)
    assert told or Health.OK not in healths(found)
    is_late = has_worker and minutes >= 300
    assert not is_late or any(finding.leaks for finding in found)
