"""Make a failing night smaller: fewer kinds of faults, fewer jobs and deeds, and in the end fewer single faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.night import Night, live
from tests.simulation.scenario import Scenario

MOST_TRIES = 400


def kind_of(problem: str) -> str:
    """What must stay the same while a failure is made smaller: the promise that is broken, not the ids in it."""
    return problem[:12]


def shrink(scenario: Scenario) -> tuple[Scenario, Night]:
    night = live(scenario)
    wanted, tries = kind_of(night.problem), 0
    changed = True
    while changed and tries < MOST_TRIES:
        changed = False
        for smaller in _smaller(scenario, night):
            tries += 1
            attempt = live(smaller)
            if attempt.problem and kind_of(attempt.problem) == wanted:
                scenario, night, changed = smaller, attempt, True
                break
            if tries >= MOST_TRIES:
                break
    return scenario, live(scenario, verbose=True)


def _smaller(scenario: Scenario, night: Night) -> Iterator[Scenario]:
    """Big steps first."""
    for number in range(len(scenario.jobs)) if len(scenario.jobs) > 1 else ():
        yield replace(scenario, jobs=scenario.jobs[:number] + scenario.jobs[number + 1 :])
    for kind in scenario.rates:
        yield scenario.without_rate(kind)
    for name in ("outages", "deeds"):
        items = getattr(scenario, name)
        for number in range(len(items)):
            yield replace(scenario, **{name: items[:number] + items[number + 1 :]})
    for name in ("dry", "neighbours", "foreigners", "timers_fail", "clocks_err"):
        if getattr(scenario, name):
            yield replace(scenario, **{name: 0})
    if scenario.page_size != 1000:
        yield replace(scenario, page_size=1000)
    for name in scenario.behaviours if len(scenario.behaviours) > 1 else ():
        yield replace(scenario, behaviours={it: share for it, share in scenario.behaviours.items() if it != name})
    for kind in scenario.rates:
        ordinals = range(night.faults[kind] + sum(it.startswith(f"{kind}:") for it in scenario.skip))
        for ordinal in ordinals if len(ordinals) <= 40 else ():
            if f"{kind}:{ordinal}" not in scenario.skip:
                yield replace(scenario, skip=scenario.skip | {f"{kind}:{ordinal}"})


def describe(scenario: Scenario) -> str:
    """The scenario in a few lines."""
    lines = [f"seed {scenario.seed}"]
    for job in scenario.jobs:
        lines.append(
            f"  job {job.name}: {job.compute.capacity_type}, timeout {job.timeout}, deadline {job.deadline}, "
            f"{job.retry.attempts} attempts, {job.retry.interruptions} interruptions, {job.on_finish}"
        )
    lines.append(f"  workers: {', '.join(scenario.behaviours) or 'honest'}")
    lines += [f"  fault {kind}: {rate:.3f}" for kind, rate in scenario.rates.items()]
    lines += [f"  {it.service} {it.operation} {it.kind}: {it.begins:.0f} - {it.ends:.0f} s" for it in scenario.outages]
    lines += [f"  at {deed.at:.0f} s somebody: {deed.what}" for deed in scenario.deeds]
    if scenario.dry or scenario.neighbours:
        lines.append(f"  pools dry {scenario.dry}, API used by others {scenario.neighbours}")
    if scenario.skip:
        lines.append(f"  left out: {', '.join(sorted(scenario.skip))}")
    return "\n".join(lines)
