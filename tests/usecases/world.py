"""A small world in memory: the ports of the use cases over one EC2 with tokens, one bucket and one table.

`World.crash_after` makes the n-th outside call the last one of its invocation, so a test can cut a use case at
every step it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nightcrew.domain.job import Job
from nightcrew.domain.plan import Image, LaunchRequest, Refusal, RefusalKind
from nightcrew.domain.result import Result
from nightcrew.domain.run import Attempt, Outcome, Run, Worker, due_at
from nightcrew.domain.sweep import EndCause, LeftOver, SeenWorker, WorkerState
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.errors import AmbiguousLaunchError, StaleRunError, UnreadableError
from nightcrew.usecases.launch import Launch, Tick
from nightcrew.usecases.look import Look
from nightcrew.usecases.ports import Due, EndReport, EndStatus, LaunchRefused, WatchedJob
from nightcrew.usecases.reap import DueSweep, InventorySweep
from nightcrew.usecases.watch import Watch
from tests.builders import LIMITS, NOW, SUBNETS, TEMPLATE, make_job


class CrashError(BaseException):
    """The Lambda died: nothing in the code under test may catch this."""


@dataclass
class World:
    now_: datetime = NOW
    jobs_: dict[tuple[str, str], Job] = field(default_factory=dict)
    runs_: dict[str, Run] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    watched: list[WatchedJob] = field(default_factory=list)
    advanced: list[WatchedJob] = field(default_factory=list)
    instances: dict[str, SeenWorker] = field(default_factory=dict)
    tokens: dict[str, tuple[LaunchRequest, str]] = field(default_factory=dict)
    rosters: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    left: dict[str, LeftOver] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    refuse: list[RefusalKind] = field(default_factory=list)
    lose_answer: int = 0
    unreadable: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    crash_after: int | None = None

    # ---- every outside call passes here --------------------------------------------------------------------

    def called(self, name: str) -> None:
        if self.crash_after is not None and len(self.calls) >= self.crash_after:
            raise CrashError(f"before {name}")
        self.calls.append(name)
        if name in self.unreadable:
            raise UnreadableError(f"{name} cannot be read")

    def now(self) -> datetime:
        return self.now_

    def draw(self) -> str:
        return "5ec2e7" * 5

    # ---- records -------------------------------------------------------------------------------------------

    def add_job(self, job: Job | None = None) -> Tick:
        job = job or make_job()
        self.jobs_[job.name, job.revision] = job
        return Tick(job.name, job.revision, NOW)

    def create(self, run: Run) -> bool:
        self.called("runs.create")
        if run.run_id in self.runs_:
            return False
        self.runs_[run.run_id] = run
        return True

    def get(self, first: str, revision: str | None = None):
        if revision is not None:
            self.called("jobs.get")
            return self.jobs_.get((first, revision))
        self.called("runs.get")
        return self.runs_.get(first)

    def get_many(self, run_ids):
        self.called("runs.get_many")
        return {run_id: self.runs_.get(run_id) for run_id in run_ids}

    def save(self, run: Run) -> Run:
        self.called("runs.save")
        if self.runs_[run.run_id].version != run.version:
            raise StaleRunError(run.run_id)
        saved = replace(run, version=run.version + 1)
        self.runs_[run.run_id] = saved
        for attempt in saved.attempts:
            if attempt.worker:
                self.rows[attempt.worker.instance_id] = run.run_id
        return saved

    def runs_of(self, instance_ids):
        self.called("runs.runs_of")
        return {i: self.rows[i] for i in instance_ids if i in self.rows}

    def open(self):
        self.called("runs.open")
        return [run for run in self.runs_.values() if due_at(run, LIMITS) is not None]

    def due(self, now: datetime) -> Due:
        self.called("due")
        due = [run for run in self.runs_.values() if (at := due_at(run, LIMITS)) is not None and at <= now]
        return Due(tuple(run.run_id for run in due), tuple(self.watched))

    def advance(self, watched: WatchedJob) -> None:
        self.called("watch.advance")
        self.advanced.append(watched)

    # ---- launching -----------------------------------------------------------------------------------------

    def image(self, image: str) -> Image:
        self.called("image")
        return Image(image, "/dev/xvda")

    def subnets(self, subnet_ids):
        self.called("subnets")
        return SUBNETS

    def launch(self, request: LaunchRequest) -> Worker | LaunchRefused:
        self.called("fleet.launch")
        if request.client_token in self.tokens:
            known, instance_id = self.tokens[request.client_token]
            if known != request:
                return LaunchRefused(
                    RefusalKind.CONFIGURATION, (Refusal("all pools", "IdempotentParameterMismatch", ""),)
                )
            return self.worker(instance_id)
        if self.refuse:
            kind = self.refuse.pop(0)
            return LaunchRefused(kind, (Refusal("m7g.large/eu-west-1a", "code", f"{kind}"),))
        instance_id = f"i-{len(self.instances) + 1:08x}"
        self.instances[instance_id] = SeenWorker(
            instance_id=instance_id,
            state=WorkerState.PENDING,
            launched_at=self.now_,
            tags=dict(request.tags),
            instance_type=request.step.pools[0].instance_type,
            capacity_type=request.step.capacity_type.value,
            zone=request.step.pools[0].zone,
        )
        self.tokens[request.client_token] = (request, instance_id)
        if self.lose_answer:
            self.lose_answer -= 1
            raise AmbiguousLaunchError("connection closed before the answer")
        return self.worker(instance_id)

    def worker(self, instance_id: str) -> Worker:
        return self.instances[instance_id].as_worker

    def request(self, run_id: str) -> None:
        self.called("launches.request")
        self.requested.append(run_id)

    # ---- exchange ------------------------------------------------------------------------------------------

    def put_roster(self, run: Run, attempt: Attempt, worker: Worker) -> None:
        self.called("exchange.put_roster")
        self.rosters[attempt.launch] = worker.instance_id

    def result(self, attempt: Attempt) -> Result | None:
        self.called("exchange.result")
        return self.results.get(attempt.worker.instance_id) if attempt.worker else None

    # ---- workers -------------------------------------------------------------------------------------------

    def describe(self, instance_ids):
        self.called("workers.describe")
        return {i: self.instances[i] for i in instance_ids if i in self.instances}

    def of_launch(self, launch: str):
        self.called("workers.of_launch")
        return next((w for w in self.living() if w.tags["nightcrew:launch"] == launch), None)

    def all_ours(self):
        self.called("workers.all_ours")
        return list(self.living())

    def living(self):
        return [w for w in self.instances.values() if not w.state.is_gone]

    def terminate(self, instance_ids):
        self.called("workers.terminate")
        for instance_id in instance_ids:
            self.end(instance_id, WorkerState.TERMINATED)
        return {i: EndReport(EndStatus.ENDED) for i in instance_ids}

    def stop(self, instance_ids):
        self.called("workers.stop")
        for instance_id in instance_ids:
            self.end(instance_id, WorkerState.STOPPED)
        return {i: EndReport(EndStatus.ENDED) for i in instance_ids}

    def end(self, instance_id: str, state: WorkerState, cause: EndCause = EndCause.OUTSIDE) -> None:
        if instance_id in self.instances:
            self.instances[instance_id] = replace(self.instances[instance_id], state=state, end_cause=cause)

    def boot(self) -> None:
        for worker in self.living():
            if worker.state is WorkerState.PENDING:
                self.instances[worker.instance_id] = replace(worker, state=WorkerState.RUNNING)

    def finish(self, instance_id: str, outcome: Outcome = Outcome.SUCCEEDED, exit_code: int | None = 0) -> None:
        """The worker writes its result and powers off."""
        launch = self.instances[instance_id].tags["nightcrew:launch"]
        self.results[instance_id] = Result(launch=launch, outcome=outcome, exit_code=exit_code, message="as told")
        self.end(instance_id, WorkerState.TERMINATED, EndCause.ITSELF)

    # ---- left-overs and notices ----------------------------------------------------------------------------

    def find(self):
        self.called("left_overs.find")
        return list(self.left.values())

    def delete(self, resource_id: str) -> EndReport:
        self.called("left_overs.delete")
        self.left.pop(resource_id)
        return EndReport(EndStatus.ENDED)

    def send(self, subject: str, text: str) -> None:
        self.called("notifier.send")
        self.notices.append(subject)

    # ---- the use cases over it -----------------------------------------------------------------------------

    def effects(self, *, may_end: bool = True) -> Effects:
        return Effects(
            runs=self,
            notifier=self,
            clock=self,
            limits=LIMITS,
            workers=self if may_end else None,
            launches=self if may_end else None,
        )

    def launcher(self) -> Launch:
        return Launch(
            stack="nightcrew",
            template=TEMPLATE,
            subnets=(),
            limits=LIMITS,
            jobs=self,
            runs=self,
            inputs=self,
            fleet=self,
            exchange=self,
            effects=self.effects(may_end=False),
            nonces=self,
            clock=self,
        )

    def look(self) -> Look:
        return Look(runs=self, workers=self, exchange=self, effects=self.effects(), clock=self, limits=LIMITS)

    def watch(self) -> Watch:
        return Watch(runs=self, workers=self, look=self.look(), effects=self.effects())

    def due_sweep(self) -> DueSweep:
        return DueSweep(
            stack="nightcrew",
            runs=self,
            due_list=self,
            watch=self,
            look=self.look(),
            effects=self.effects(),
            clock=self,
        )

    def inventory_sweep(self) -> InventorySweep:
        return InventorySweep(runs=self, workers=self, left_overs=self, look=self.look(), clock=self, limits=LIMITS)

    def pass_time(self, **duration) -> None:
        self.now_ += timedelta(**duration)

    def sweep_until_quiet(self, *, minutes: int = 12 * 60) -> None:
        """Let time pass with nothing but the sweeps (and the launcher they ask for), until nothing is due."""
        for _ in range(minutes):
            self.due_sweep().sweep()
            self.serve_launch_requests()
            if self.now_.minute % 10 == 0:
                self.inventory_sweep().sweep()
            if not self.open() and not self.living():
                return
            self.pass_time(minutes=1)
        raise AssertionError(f"not quiet after {minutes} minutes: {self.open()}, {self.living()}")

    def serve_launch_requests(self) -> None:
        requested, self.requested = self.requested, []
        for run_id in requested:
            self.launcher().resume(run_id)
        self.boot()
