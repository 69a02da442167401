"""What people and the rest of the account do in a night: cancel, run by hand, meddle with instances, lose the table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from nightcrew.domain.tags import format_time
from tests.simulation.ec2 import BY_USER, Instance, Thing
from tests.simulation.kernel import at

if TYPE_CHECKING:
    from tests.simulation.scenario import Deed, Scenario
    from tests.simulation.world import World


class People:
    def __init__(self, world: World) -> None:
        self._world = world
        self._left = 0

    @property
    def done(self) -> bool:
        return not self._left

    def begin(self, scenario: Scenario) -> None:
        for number in range(scenario.foreigners):
            self._foreign(number)
        self._left = len(scenario.deeds)
        for number, deed in enumerate(scenario.deeds):
            self._world.kernel.at(deed.at, self._do, number, deed)

    def _do(self, number: int, deed: Deed) -> None:
        self._left -= 1
        world = self._world
        if world.dice.happens(deed.what):
            world.kernel.note("somebody:", deed.what)
            getattr(self, f"_{deed.what}")(number)

    # ---- Asking Nightcrew ------------------------------------------------------------------------------------

    def _cancel(self, _number: int) -> None:
        open_runs = [run_id for run_id, status in self._world.invariants.statuses.items() if not status.is_terminal]
        if open_runs:
            run_id = self._world.dice.choice(open_runs, "people")
            detail = {"run_id": run_id, "by": "anna"}
            envelope = {"source": "nightcrew", "detail-type": "Cancel Requested", "detail": detail}
            self._world.queue.send(json.dumps(envelope))

    def _manual(self, number: int) -> None:
        job = self._world.dice.choice(self._world.scenario.jobs, "people")
        moment = format_time(at(self._world.kernel.now))
        tick = {"job": job.name, "revision": job.revision, "scheduled_time": moment, "trigger": "manual"}
        for _ in range(1 + number % 2):  # the command line may repeat a call whose answer it did not get
            self._world.invoke("launcher", dict(tick), lambda invocation: None)

    def _apply_again(self, _number: int) -> None:
        job = self._world.dice.choice(self._world.scenario.jobs, "people")
        self._world.apply(replace(job, description="changed in the middle of the night"))

    def _poison(self, number: int) -> None:
        self._world.queue.send(("no json", "[]", '{"detail": 7}', "{}")[number % 4])

    def _empty_table(self, _number: int) -> None:
        self._world.table.empty()
        self._world.invariants.table_emptied()

    # ---- Meddling with instances -----------------------------------------------------------------------------

    def _some(self, *states: str) -> list[Instance]:
        found = [it for it in self._world.ec2.instances.values() if it.state in states]
        return [self._world.dice.choice(found, "people")] if found else []

    def _terminate_by_hand(self, _number: int) -> None:
        for instance in self._some("pending", "running"):
            self._world.ec2.terminate(instance, BY_USER)

    def _stop_by_hand(self, _number: int) -> None:
        for instance in self._some("running"):
            if instance.capacity_type != "spot":
                self._world.ec2.stop(instance, BY_USER)

    def _start_by_hand(self, _number: int) -> None:
        for instance in self._some("stopped"):
            self._world.ec2.start(instance)

    def _protect(self, _number: int) -> None:
        """Termination protection for a while; it is taken off when the night grows calm."""
        for instance in self._some("running"):
            instance.protected = True

    def _interrupt_all(self, _number: int) -> None:
        for instance in list(self._world.ec2.live()):
            if instance.capacity_type == "spot":
                self._world.ec2.interrupt(instance)

    def take_off_protection(self) -> None:
        for instance in self._world.ec2.instances.values():
            instance.protected = False

    # ---- Others in the account -------------------------------------------------------------------------------

    def _foreign(self, number: int) -> None:
        """An instance and a volume of somebody else, with tags that look like ours."""
        world = self._world
        tags = {
            "nightcrew:stack": ("nightcrew-test", "Nightcrew", "")[number % 3],
            "nightcrew:run": "job-0-20260116T000500Z",
            "nightcrew:deadline": "2026-01-15T00:00:00Z",
            "nightcrew:attempt": "1",
            "Name": "nightcrew",
        }
        instance = world.ec2.launch(
            instance_type="m7g.large",
            zone="eu-west-1a",
            subnet="subnet-a",
            capacity_type=("spot", "on-demand")[number % 2],
            tags=tags,
        )
        instance.owned.clear()
        thing_id = world.ec2.new_id("vol")
        world.ec2.things[thing_id] = Thing(thing_id=thing_id, tags=tags, created=0.0, attached_to=None)
