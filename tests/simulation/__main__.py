"""Run many nights, and say what came of them.

python -m tests.simulation --seeds 1000            nights 0 to 999, on all cores
python -m tests.simulation --seed 17 --verbose     one night, call by call
python -m tests.simulation --seed 17 --shrink      the same failure, made smaller
python -m tests.simulation --exhaustive            plain nights, cut at every single outside call
python -m tests.simulation --mutants               deliberate bugs: each must be noticed
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.simulation.mutants import Mutant, mutants
from tests.simulation.night import Night, live
from tests.simulation.plain import STORIES, cut_everywhere
from tests.simulation.scenario import draw
from tests.simulation.shrink import describe, shrink

CHUNK = 50
MOST_FAILURES = 5


@dataclass
class Figures:
    nights: int = 0
    hours: float = 0.0
    steps: int = 0
    calls: int = 0
    invocations: int = 0
    idle_sweeps: int = 0
    timeouts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    overtime: dict[str, float] = field(default_factory=dict)
    failed: list[tuple[int | str, str]] = field(default_factory=list)

    def add(self, night: Night) -> None:
        self.nights += 1
        self.hours += night.hours
        self.steps += night.steps
        self.calls += night.calls
        self.invocations += night.invocations
        self.idle_sweeps += night.idle_sweeps
        self.timeouts += night.timeouts
        self.faults += night.faults
        self.outcomes += night.outcomes
        self._add_overtime(night.overtime)
        if night.problem:
            self.failed.append((night.seed, night.problem))

    def _add_overtime(self, overtime: dict[str, float]) -> None:
        for table, seconds in overtime.items():
            self.overtime[table] = max(self.overtime.get(table, 0.0), seconds)

    def merge(self, other: Figures) -> None:
        for name in ("nights", "hours", "steps", "calls", "invocations", "idle_sweeps", "timeouts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.outcomes += other.outcomes
        self._add_overtime(other.overtime)
        self.failed += other.failed

    def show(self, seconds: float) -> None:
        cores = os.cpu_count()
        say(f"nights       {self.nights:>12,}   ({self.hours:,.0f} hours of virtual time)")
        say(f"steps        {self.steps:>12,}   outside calls {self.calls:,}")
        say(f"invocations  {self.invocations:>12,}   idle sweeps left out {self.idle_sweeps:,}")
        say(f"crashes      {self.faults['crash'] + self.faults['cut']:>12,}   Lambda timeouts {self.timeouts:,}")
        say(f"faults       {sum(self.faults.values()):>12,}")
        for kind, count in self.faults.most_common():
            say(f"  {kind:<24} {count:>10,}")
        say(f"runs         {sum(self.outcomes.values()):>12,}")
        for outcome, count in self.outcomes.most_common():
            say(f"  {outcome:<24} {count:>10,}")
        for table, longest in sorted(self.overtime.items()):
            say(f"longest life after a deadline, sweeps undisturbed, table {table}: {longest:.0f} s")
        say(f"seconds      {seconds:>12.1f}   {self.nights / max(seconds, 1e-9):.0f} nights a second on {cores} cores")
        say(f"broken       {len(self.failed):>12,}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    options = _options()
    if options.mutants:
        return _check_mutants(options.seeds or 3000)
    if options.exhaustive:
        return _cut_plain_nights()
    if options.seed is not None:
        return _one(options.seed, verbose=options.verbose, smaller=options.shrink)
    return _many(options.first, options.seeds or 1000)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Nightcrew over a simulated AWS")
    parser.add_argument("--seeds", type=int, help="how many nights (default 1000; of mutants: at most 3000 each)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="only this night")
    parser.add_argument("--verbose", action="store_true", help="with --seed: show every step")
    parser.add_argument("--shrink", action="store_true", help="with --seed: make its failure smaller")
    parser.add_argument("--exhaustive", action="store_true", help="cut plain nights at every single outside call")
    parser.add_argument("--mutants", action="store_true", help="check that deliberate bugs are noticed")
    return parser.parse_args()


def _one(seed: int, *, verbose: bool, smaller: bool) -> int:
    scenario = draw(seed)
    night = live(scenario, verbose=verbose)
    if smaller and night.problem:
        scenario, night = shrink(scenario)
    say("\n".join(night.trace))
    say(describe(scenario))
    say(night.problem or f"all promises held; runs: {dict(night.outcomes)}")
    return 1 if night.problem else 0


def _many(first: int, count: int) -> int:
    begun = time.monotonic()
    total = Figures()
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with _pool() as pool:
        for figures in pool.imap_unordered(_live_all, chunks):
            total.merge(figures)
    total.show(time.monotonic() - begun)
    return _tell_failures(total)


def _live_all(seeds: Iterable[int]) -> Figures:
    figures = Figures()
    for seed in seeds:
        figures.add(live(draw(seed)))
    return figures


def _tell_failures(total: Figures) -> int:
    for seed, problem in total.failed:
        say(f"seed {seed}: {problem[:150]}")
    for seed, problem in total.failed[:MOST_FAILURES]:
        say(f"\nseed {seed}: {problem}")
        if isinstance(seed, int):
            scenario, night = shrink(draw(seed))
            say("\n".join(night.trace[-60:]))
            say(describe(scenario))
            say(f"again: python -m tests.simulation --seed {seed} --verbose   (or --shrink)")
    return 1 if total.failed else 0


def _cut_plain_nights() -> int:
    begun = time.monotonic()
    total = Figures()
    with _pool() as pool:
        for name, figures in pool.imap_unordered(_cut_story, list(STORIES)):
            say(f"{name:<40} cut {figures.nights:>5} times, {len(figures.failed)} broken")
            total.merge(figures)
    total.show(time.monotonic() - begun)
    for story, problem in total.failed[:MOST_FAILURES]:
        say(f"{story}: {problem}")
    return 1 if total.failed else 0


def _cut_story(name: str) -> tuple[str, Figures]:
    figures = Figures()
    for cut, night in cut_everywhere(STORIES[name]):
        night.seed = (
            f"{name}, before call {cut.cut_before}" if cut.cut_before else f"{name}, after call {cut.cut_after}"
        )
        figures.add(night)
    return name, figures


def _check_mutants(most: int) -> int:
    survivors = 0
    say(f"{'mutant':<58} {'caught by':<12} noticed")
    with _pool() as pool:
        found = pool.imap(_check_mutant, [(mutant.name, most) for mutant in mutants()])
        for name, seed, problem in found:
            survivors += seed is None
            say(f"{name:<58} {'never' if seed is None else f'seed {seed}':<12} {problem[:100]}")
    say(f"{len(mutants())} mutants, {survivors} not noticed")
    return 1 if survivors else 0


def _check_mutant(order: tuple[str, int]) -> tuple[str, int | None, str]:
    name, most = order
    mutant: Mutant = next(it for it in mutants() if it.name == name)
    with mutant.patches():
        for night in _nights(most):
            if night.problem:
                assert isinstance(night.seed, int)
                return name, night.seed, night.problem
    return name, None, ""


def _nights(most: int) -> Iterator[Night]:
    return (live(draw(seed)) for seed in range(most))


def _pool() -> multiprocessing.pool.Pool:
    return multiprocessing.get_context("fork").Pool(os.cpu_count())


if __name__ == "__main__":
    sys.exit(main())
