"""Live through one night: until all is quiet, and then a calm while in which everything must come right."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.invariants import BrokenPromise
from tests.simulation.scenario import HOUR, Scenario
from tests.simulation.world import World

# Faults end here at the latest; the longest deadline and the longest outage lie before.
FAULTS_END = 5 * HOUR
# Long enough for a stopped worker to be let go, and for sweeps, retries and redeliveries to be through.
CALM = 3 * HOUR


@dataclass(slots=True, kw_only=True)
class Night:
    """What became of one scenario. `problem` is empty when every promise held."""

    seed: int | str
    problem: str = ""
    checksum: int = 0
    steps: int = 0
    calls: int = 0
    invocations: int = 0
    crashes: int = 0
    timeouts: int = 0
    idle_sweeps: int = 0
    hours: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    overtime: dict[str, float] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


def live(scenario: Scenario, *, verbose: bool = False) -> Night:
    night = Night(seed=scenario.seed)
    world = World(scenario, verbose=verbose)
    try:
        world.kernel.run(FAULTS_END, finished=world.is_quiet_after_the_night)
        world.grow_calm()
        world.kernel.run(world.kernel.now + CALM, finished=world.is_quiet)
        world.invariants.at_the_end()
    except BrokenPromise as error:
        night.problem = str(error)
    except Exception as error:  # in the simulation itself, or an assertion of a fake client
        night.problem = f"{type(error).__name__}: {error}"
        world.kernel.trace.append(traceback.format_exc())
    kernel = world.kernel
    night.checksum, night.steps, night.invocations = kernel.checksum, kernel.steps, kernel.invocations
    night.calls, night.idle_sweeps, night.hours = world.calls, world.idle_sweeps, kernel.now / HOUR
    night.faults = world.dice.fired
    night.crashes, night.timeouts = world.dice.fired["crash"], kernel.timeouts
    night.trace, night.overtime = kernel.trace, world.invariants.longest_overtime
    night.outcomes = Counter(str(run.outcome) for run in world.invariants.runs.values())
    world.close()
    return night
