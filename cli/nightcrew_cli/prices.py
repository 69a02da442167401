"""What a worker costs an hour: an estimate from a price list that ships with the program and has its date."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources

_PARTS_OF_A_LARGE = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2, "large": 1.0, "xlarge": 2.0}
# EC2 bills Linux by the second, and the first minute in full.
_SHORTEST_BILL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """On-demand prices. There are no Spot prices in it: a Spot worker costs at most what on-demand costs."""

    date: str
    families: Mapping[str, Mapping[str, float]]

    def per_hour(self, instance_type: str, region: str) -> float | None:
        """Return USD per hour, or None when the list does not say."""
        family, _, size = instance_type.partition(".")
        large, ratio = self.families.get(family, {}).get(region), _ratio(size)
        return None if large is None or ratio is None else large * ratio

    def cost(self, instance_type: str, region: str, billed: timedelta) -> float | None:
        """Return USD for a worker that ran this long, its disk not counted, or None when the list does not say."""
        price = self.per_hour(instance_type, region)
        return None if price is None else price * max(billed, _SHORTEST_BILL).total_seconds() / 3600


@cache
def price_book() -> PriceBook:
    text = resources.files("nightcrew_cli").joinpath("data/ec2-prices.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return PriceBook(date=data["date"], families=data["families"])


def _ratio(size: str) -> float | None:
    """Return how many times a .large this size is, or None for metal and what we do not know."""
    if size in _PARTS_OF_A_LARGE:
        return _PARTS_OF_A_LARGE[size]
    match = re.fullmatch(r"([0-9]{1,3})xlarge", size)
    return 2.0 * int(match[1]) if match else None
