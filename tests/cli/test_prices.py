"""Estimates: right for what the list knows, unknown for all else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nightcrew_cli.preview import usual_time
from nightcrew_cli.prices import price_book


@pytest.mark.parametrize(
    ("instance_type", "region", "price"),
    [
        ("m7g.large", "us-east-1", 0.0816),
        ("m7g.medium", "us-east-1", 0.0408),
        ("m7g.xlarge", "us-east-1", 0.1632),
        ("m7g.16xlarge", "us-east-1", 2.6112),
        ("t4g.nano", "us-east-1", 0.0042),
        ("c7g.4xlarge", "eu-west-1", 0.62),
        ("m7g.metal", "us-east-1", None),
        ("m7g.large", "moon-1", None),
        ("m7g.large", "", None),
        ("g5.12xlarge", "us-east-1", None),
        ("nonsense", "us-east-1", None),
    ],
)
def test_price_of_an_hour(instance_type: str, region: str, price: float | None) -> None:
    found = price_book().per_hour(instance_type, region)

    assert found is None if price is None else found == pytest.approx(price, rel=0.01)


def test_the_first_minute_is_billed_in_full() -> None:
    book = price_book()

    assert book.cost("m7g.large", "us-east-1", timedelta(seconds=5)) == pytest.approx(0.0816 / 60)
    assert book.cost("m7g.large", "us-east-1", timedelta(hours=2)) == pytest.approx(0.1632)


def test_the_list_has_a_date() -> None:
    assert price_book().date == "2025-03-02"


def test_without_runs_nothing_is_usual() -> None:
    assert usual_time([]) is None
