"""The table is lost: what AWS and the exchange still tell becomes records again, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightcrew.domain.job import Job, JobSchedule, OnFinish
from nightcrew.domain.rebuild import BrokenRoster, PastResult, Roster
from nightcrew.domain.run import Attempt, Outcome, Run, RunStatus, Worker
from nightcrew.domain.sweep import WorkerState
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.launch import Tick
from nightcrew.usecases.operate import ScheduleRecord, ScheduleTarget, desired_schedule
from nightcrew.usecases.rebuild import SAMPLE, PastLaunch, Rebuild, Survey
from tests.builders import LIMITS, NOW, make_job
from tests.usecases.world import World

TARGET = ScheduleTarget(launcher="arn:launcher", role="arn:role", dead_letters="arn:dlq")
WINDOW = timedelta(hours=48)


@dataclass
class LostWorld(World):
    """The world, with all that outlives its table."""

    papers: dict[str, Roster | BrokenRoster] = field(default_factory=dict)
    current_: dict[str, Job] = field(default_factory=dict)
    schedules_: list[ScheduleRecord] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)

    def draw(self) -> str:
        self.drawn.append(f"{len(self.drawn):032}")
        return self.drawn[-1]

    def go_on(self, *, minutes: int) -> None:
        """Let the due sweep and the launcher do their work for a while."""
        for _ in range(minutes):
            self.due_sweep().sweep()
            self.serve_launch_requests()
            self.pass_time(minutes=1)

    def put_roster(self, run: Run, attempt: Attempt, worker: Worker) -> None:
        super().put_roster(run, attempt, worker)
        self.papers[attempt.launch] = Roster(
            launch=attempt.launch,
            run=replace(run, nonce="", version=1),
            instance_ids=(worker.instance_id,),
            written_at=self.now_,
        )

    def roster(self, launch: str) -> Roster | BrokenRoster | None:
        self.read.append(launch)
        return self.papers.get(launch)

    def launches(self, since: datetime) -> list[PastLaunch]:
        found = [
            PastLaunch(launch, paper.written_at if isinstance(paper, Roster) else NOW)
            for launch, paper in self.papers.items()
        ]
        return sorted((past for past in found if past.at >= since), key=lambda past: past.at, reverse=True)

    def all(self) -> list[ScheduleRecord]:
        return self.schedules_

    def current(self, name: str) -> Job | None:
        return self.current_.get(name)

    def restore(self, record: Run | Job, now: datetime | None = None) -> bool:
        self.called("restore")
        if isinstance(record, Job):
            self.jobs_[record.name, record.revision] = record
            return self.current_.setdefault(record.name, record) is record
        if record.run_id in self.runs_:
            return False
        self.runs_[record.run_id] = record
        self.rows.update({a.worker.instance_id: record.run_id for a in record.attempts if a.worker})
        return True

    def apply(self, job: Job) -> Tick:
        tick = self.add_job(job)
        self.current_[job.name] = job
        schedule = desired_schedule(job, TARGET)
        if schedule is not None:
            self.schedules_.append(schedule)
        return tick

    def lose_table(self) -> None:
        self.runs_, self.rows, self.jobs_, self.current_ = {}, {}, {}, {}

    def rebuild(self) -> Rebuild:
        fakes: Any = self
        return Rebuild(
            stack="nightcrew",
            workers=fakes,
            runs=fakes,
            jobs=fakes,
            schedules=fakes,
            archive=Archive(self),
            nonces=fakes,
            clock=self,
            limits=LIMITS,
        )

    def survey(self, *, thorough: bool = False) -> Survey:
        return self.rebuild().survey(window=WINDOW, thorough=thorough)


@dataclass
class Archive:
    """The bucket; a port of its own, because the world's `result` is the launcher's and the sweeps'."""

    world: LostWorld

    def launches(self, since: datetime) -> list[PastLaunch]:
        return self.world.launches(since)

    def roster(self, launch: str) -> Roster | BrokenRoster | None:
        return self.world.roster(launch)

    def result(self, attempt: Attempt) -> PastResult | None:
        result = self.world.result(attempt)
        return PastResult(result, self.world.now_) if result else None


@pytest.fixture
def world() -> LostWorld:
    return LostWorld()


def scheduled(**changes: Any) -> Job:
    return make_job(schedule=JobSchedule(expressions=("cron(30 2 * * ? *)",)), **changes)


def begin(world: LostWorld, job: Job | None = None) -> Run:
    run = world.launcher().tick(world.apply(job or scheduled())).run
    world.boot()
    return run


def test_a_run_whose_record_is_lost_goes_on_to_its_own_end(world: LostWorld) -> None:
    run = begin(world)
    world.lose_table()

    survey = world.survey()
    written = world.rebuild().perform(survey)

    assert [item.done for item in written] == [True, True]
    rebuilt = world.runs_[run.run_id]
    assert rebuilt.status is RunStatus.STARTING
    assert rebuilt.nonce == world.drawn[-1] != run.nonce
    assert world.rows == {"i-00000001": run.run_id}
    world.finish("i-00000001")
    world.sweep_until_quiet()
    assert world.runs_[run.run_id].status is RunStatus.SUCCEEDED


def test_a_survey_changes_nothing(world: LostWorld) -> None:
    begin(world)
    world.lose_table()

    survey = world.survey()

    assert survey.can_write
    assert "restore" not in world.calls
    assert (world.runs_, world.rows) == ({}, {})


def test_a_rebuilt_run_that_fails_is_tried_again_under_an_id_that_its_roster_does_not_tell(world: LostWorld) -> None:
    run = begin(world)
    before = run.attempts[0].launch
    world.lose_table()
    world.rebuild().perform(world.survey())

    world.finish("i-00000001", Outcome.FAILED, 3)
    world.go_on(minutes=12)

    retried = world.runs_[run.run_id]
    assert [a.number for a in retried.attempts] == [1, 2]
    assert retried.attempts[1].launch != before
    assert len(world.instances) == 2


def test_a_run_whose_worker_is_gone_is_closed_with_its_result_and_not_tried_again(world: LostWorld) -> None:
    run = begin(world)
    world.finish("i-00000001", Outcome.FAILED, 3)
    world.pass_time(minutes=10)
    world.lose_table()

    world.rebuild().perform(world.survey())
    world.sweep_until_quiet(minutes=30)

    closed = world.runs_[run.run_id]
    assert (closed.status, closed.outcome, closed.attempts[0].exit_code) == (RunStatus.FAILED, Outcome.FAILED, 3)
    assert len(world.instances) == 1
    assert world.notices == []


def test_a_worker_that_is_kept_stopped_after_its_run_does_not_open_it_again(world: LostWorld) -> None:
    run = begin(world, scheduled(on_finish=OnFinish.STOP))
    world.finish("i-00000001", Outcome.FAILED, 3)
    world.end("i-00000001", WorkerState.STOPPED)
    world.lose_table()

    world.rebuild().perform(world.survey())

    assert world.runs_[run.run_id].status is RunStatus.FAILED
    assert world.instances["i-00000001"].state is WorkerState.STOPPED


def test_a_worker_that_is_gone_without_a_result_was_lost(world: LostWorld) -> None:
    run = begin(world)
    world.instances.clear()
    world.pass_time(minutes=10)
    world.lose_table()

    world.rebuild().perform(world.survey())

    assert world.runs_[run.run_id].outcome is Outcome.LOST


def test_what_ec2_may_not_show_yet_is_left_alone(world: LostWorld) -> None:
    begin(world)
    world.instances.clear()
    world.lose_table()

    assert world.survey().runs == ()


def test_a_record_that_exists_is_never_touched(world: LostWorld) -> None:
    run = begin(world)
    lost, world.runs_ = dict(world.runs_), {}
    survey = world.survey()
    world.runs_ = lost

    written = world.rebuild().perform(survey)

    assert world.runs_[run.run_id] is lost[run.run_id]
    assert [(item.subject, item.done) for item in written] == [(run.run_id, False)]


def test_with_every_record_there_is_nothing_to_do(world: LostWorld) -> None:
    begin(world)

    assert world.survey(thorough=True) == Survey()


@pytest.mark.parametrize("why", ["none", "contradicts", "broken"])
def test_a_worker_that_no_roster_speaks_for_is_reported_and_gets_no_record(world: LostWorld, why: str) -> None:
    run = begin(world)
    launch = run.attempts[0].launch
    roster = world.papers.pop(launch)
    assert isinstance(roster, Roster)
    if why == "contradicts":
        world.papers[launch] = replace(roster, run=replace(roster.run, run_id="another-run"))
    if why == "broken":
        world.papers[launch] = BrokenRoster("", "its roster cannot be read")
    world.lose_table()

    survey = world.survey()

    assert [item.subject for item in survey.unrecoverable] == ["i-00000001"]
    assert run.run_id not in {lost.run.run_id for lost in survey.runs}
    world.pass_time(hours=6)
    world.inventory_sweep().sweep()
    assert world.instances["i-00000001"].state is WorkerState.TERMINATED, "its deadline tag still ends it"


def test_a_past_launch_whose_roster_is_damaged_is_reported_when_its_run_has_no_record(world: LostWorld) -> None:
    run = begin(world)
    world.finish("i-00000001")
    world.papers[run.attempts[0].launch] = BrokenRoster(run.run_id, "no record in it")

    with_record = world.survey().unrecoverable
    world.lose_table()

    assert with_record == ()
    assert [item.subject for item in world.survey().unrecoverable] == [run.run_id]


def test_a_record_that_cannot_be_read_is_not_lost(world: LostWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(world)
    monkeypatch.setattr(world, "get_many", lambda run_ids: {})

    assert world.survey(thorough=True) == Survey()


def test_when_aws_cannot_be_read_nothing_is_concluded(world: LostWorld) -> None:
    begin(world)
    world.lose_table()
    world.unreadable.add("workers.all_ours")

    with pytest.raises(UnreadableError):
        world.survey()


def test_of_two_launches_of_a_run_the_newer_one_is_its_record(world: LostWorld) -> None:
    run = begin(world)
    world.finish("i-00000001", Outcome.FAILED, 1)
    world.go_on(minutes=12)
    assert len(world.runs_[run.run_id].attempts) == 2
    world.lose_table()

    world.rebuild().perform(world.survey())

    rebuilt = world.runs_[run.run_id]
    assert [a.outcome for a in rebuilt.attempts] == [Outcome.FAILED, None]
    assert rebuilt.status is RunStatus.STARTING


def test_jobs_come_back_as_their_schedules_name_them(world: LostWorld) -> None:
    job = scheduled()
    begin(world, job)
    world.lose_table()

    world.rebuild().perform(world.survey())

    assert world.current_ == {job.name: job}
    assert world.jobs_ == {(job.name, job.revision): job}


def test_a_schedule_whose_job_no_roster_tells_is_named(world: LostWorld) -> None:
    world.apply(scheduled(name="never-ran"))
    world.lose_table()

    survey = world.survey()

    assert (survey.jobs, survey.orphans) == ((), ("never-ran",))


def test_a_job_that_was_applied_anew_is_not_put_back(world: LostWorld) -> None:
    begin(world, scheduled(command="old"))
    world.lose_table()
    newer = scheduled(command="new")
    world.current_[newer.name] = newer

    survey = world.survey()

    assert (survey.jobs, survey.orphans) == ((), (newer.name,))


@pytest.mark.parametrize("payload", ["", "[]", json.dumps({"job": 1})])
def test_a_schedule_with_a_payload_of_another_is_an_orphan_under_its_own_name(world: LostWorld, payload: str) -> None:
    world.apply(scheduled())
    world.schedules_ = [replace(world.schedules_[0], payload=payload)]

    assert world.survey().orphans == ("nightly-report",)


def test_a_look_at_a_healthy_stack_reads_few_rosters_and_a_repair_all(world: LostWorld) -> None:
    tick = world.apply(scheduled())
    for minutes in range(SAMPLE + 5):
        world.launcher().tick(replace(tick, scheduled_at=NOW - timedelta(minutes=minutes)))

    sampled = world.survey()
    count = len(world.read)
    world.survey(thorough=True)

    assert (count, sampled.unread, len(world.read) - count) == (SAMPLE, 5, SAMPLE + 5)


def test_a_write_that_fails_is_told_and_the_next_one_is_made(world: LostWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(world)
    world.lose_table()
    survey, restore = world.survey(), world.restore

    def failing(record: Run | Job, now: datetime | None = None) -> bool:
        if isinstance(record, Job):
            raise UnreadableError("table cannot be reached")
        return restore(record, now)

    monkeypatch.setattr(world, "restore", failing)

    written = world.rebuild().perform(survey)

    assert [(item.done, item.text) for item in written] == [
        (False, "could not be written: table cannot be reached"),
        (True, "record rebuilt: STARTING"),
    ]
