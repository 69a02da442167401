"""Launch the worker of a tick or of a retry: record first, then one call, then the roster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from nightcrew.domain import lifecycle
from nightcrew.domain.job import Job
from nightcrew.domain.lifecycle import (
    Decision,
    Launched,
    Refused,
    begin_retry,
    claim_launch,
    decide,
    launch_request,
)
from nightcrew.domain.plan import Template, make_plan
from nightcrew.domain.run import Limits, Outcome, Run, RunStatus, Trigger, run_id_of
from nightcrew.usecases import ports
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.errors import LaunchInputError, StaleRunError, UnknownJobError


@dataclass(frozen=True, slots=True)
class Tick:
    """One firing of a job's schedule, or a person's wish to run it now."""

    job: str
    revision: str
    scheduled_at: datetime
    trigger: Trigger = Trigger.SCHEDULE


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    stack: str
    template: Template
    subnets: tuple[str, ...]
    limits: Limits
    jobs: ports.JobStore
    runs: ports.RunStore
    inputs: ports.LaunchInputs
    fleet: ports.Fleet
    exchange: ports.Exchange
    effects: Effects
    nonces: ports.Nonces
    clock: ports.Clock

    def tick(self, tick: Tick) -> Decision:
        """Begin the run of this tick, or carry on with it when an earlier delivery began it.

        Raises UnknownJobError, AmbiguousLaunchError; the delivery is then repeated.
        """
        run_id = run_id_of(tick.job, tick.scheduled_at, tick.trigger)
        run = self.runs.get(run_id)
        if run is None:
            job = self.jobs.get(tick.job, tick.revision)
            if job is None:
                raise UnknownJobError(
                    f"job {tick.job!r} has no revision {tick.revision}: apply it again (nightcrew apply)"
                )
            run = self._first_record(job, tick)
            if not self.runs.create(run):
                return self.resume(run_id)
            return self._carry_on(run, Decision(run, reason="tick accepted"))
        return self._carry_on(run, self._claimed(run))

    def resume(self, run_id: str) -> Decision:
        """Carry on with a run that waits for its next attempt or whose launch was cut short."""
        run = self.runs.get(run_id)
        if run is None:
            raise UnknownJobError(f"run {run_id!r} has no record: nothing to resume")
        return self._carry_on(run, self._claimed(run))

    def _claimed(self, run: Run) -> Decision:
        """The run with its next attempt, or with the one that somebody else began, for this launcher to launch."""
        if run.status is RunStatus.LAUNCHING:
            return claim_launch(run, self.clock.now(), self.limits)
        return begin_retry(run, self.clock.now())

    def _first_record(self, job: Job, tick: Tick) -> Run:
        now = self.clock.now()
        late = now - tick.scheduled_at
        if tick.trigger is Trigger.SCHEDULE and job.schedule and late > job.schedule.start_within:
            minutes = int(late.total_seconds() // 60)
            return self._ended(job, tick, now, Outcome.MISSED, f"the tick arrived {minutes} min late")
        try:
            plan = make_plan(
                job,
                template=self.template,
                image=self.inputs.image(job.compute.image),
                subnets=self.inputs.subnets(job.compute.subnets or self.subnets),
            )
        except LaunchInputError as error:
            return self._ended(job, tick, now, Outcome.LAUNCH_FAILED, str(error))
        return lifecycle.new_run(
            job,
            stack=self.stack,
            scheduled_at=tick.scheduled_at,
            trigger=tick.trigger,
            nonce=self.nonces.draw(),
            now=now,
            plan=plan,
        )

    def _ended(self, job: Job, tick: Tick, now: datetime, outcome: Outcome, message: str) -> Run:
        return lifecycle.ended_run(
            job,
            stack=self.stack,
            scheduled_at=tick.scheduled_at,
            trigger=tick.trigger,
            now=now,
            outcome=outcome,
            message=message,
        )

    def _carry_on(self, run: Run, decision: Decision) -> Decision:
        try:
            if decision.run is not run:
                run = self.effects.apply(run, decision)
            if run.status is RunStatus.LAUNCHING:
                return self._launch(run)
            # A first record that is closed already (missed, refused) still owes its notice.
            return self.effects.settle(run, decision.reason)
        except StaleRunError:
            # Another delivery of the same tick was faster. It holds the same token, so no second worker
            # exists, and it does, or the sweep will do, all that is left to do.
            current = self.runs.get(run.run_id) or run
            return Decision(current, reason="another delivery is carrying on with this run")

    def _launch(self, run: Run) -> Decision:
        """Try the plan's steps until one gives a worker, the attempt ends, or the same call must be repeated later."""
        while True:
            decision = self._launch_step(run)
            after = decision.run
            if after.status is not RunStatus.LAUNCHING or _step(after) == _step(run):
                return decision
            run = after

    def _launch_step(self, run: Run) -> Decision:
        attempt = run.attempt
        if attempt is None:
            raise ValueError(f"{run.run_id}: LAUNCHING without an attempt")
        if self.clock.now() >= run.deadline:
            # Whether an earlier call did launch something is for the sweep to find out.
            return Decision(run, reason="the deadline has passed; nothing is launched any more")
        answer = self.fleet.launch(launch_request(run))
        if isinstance(answer, ports.LaunchRefused):
            event: Launched | Refused = Refused(
                attempt.number, attempt.step, answer.kind, answer.refusals, answer.is_token_spent
            )
        else:
            # Before the record: a worker that is in the record always has a roster, and if we die here the
            # same call gives the same worker again.
            self.exchange.put_roster(run, attempt, answer)
            event = Launched(attempt.number, answer)
        decision = decide(run, event, self.clock.now(), self.limits)
        return replace(decision, run=self.effects.apply(run, decision))


def _step(run: Run) -> tuple[int, int] | None:
    return (run.attempt.number, run.attempt.step) if run.attempt else None
