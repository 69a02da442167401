"""Chance, from one seed. Each kind of fault has a stream of its own, so that leaving one out changes no other."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """`skip` names single faults, as "kind:ordinal", that are not to happen: this is how a failure is shrunk."""

    def __init__(self, seed: int | str, rates: Mapping[str, float], skip: frozenset[str] = frozenset()) -> None:
        self._seed, self._rates, self._skip = seed, rates, skip
        self._streams: dict[str, random.Random] = {}
        self._ordinals: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.calm = False

    def stream(self, name: str) -> random.Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._seed}/{name}")
        return stream

    def fault(self, kind: str) -> bool:
        """Say whether a fault of this kind happens now."""
        rate = self._rates.get(kind)
        if not rate or self.calm or self.stream(kind).random() >= rate:
            return False
        return self.happens(kind)

    def happens(self, kind: str) -> bool:
        """Count a fault that is decided elsewhere; False when it is to be skipped."""
        ordinal = self._ordinals[kind]
        self._ordinals[kind] += 1
        if f"{kind}:{ordinal}" in self._skip:
            return False
        self.fired[kind] += 1
        return True

    def between(self, low: float, high: float, of: str = "time") -> float:
        return low + (high - low) * self.stream(of).random()

    def choice(self, options: Sequence[T], of: str = "choice") -> T:
        return options[int(self.stream(of).random() * len(options))]
