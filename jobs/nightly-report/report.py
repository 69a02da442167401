"""The nightly report: reads the measurements, compares, and writes a page, a summary and a table.

Plain Python 3.9 or newer, nothing to install. To try it by hand:

    NIGHTCREW_SCHEDULED_DATE=2026-11-23 NIGHTCREW_OUTPUT_DIR=/tmp/report python3 report.py
"""

# ruff: noqa: T201, TID251 - a job of its own: it prints, and reads what Nightcrew puts into the environment

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from compare import Comparison, Record
from page import render
from report_data import Report, make_report
from weather import BadDataError, read_days

# From sysexits.h, so that the log tells a wrong call from wrong data.
USAGE_ERROR, DATA_ERROR = 64, 65
MEASUREMENTS = Path(__file__).with_name("seattle-weather.csv")


def main(environment: Mapping[str, str]) -> int:
    try:
        scheduled = date.fromisoformat(environment["NIGHTCREW_SCHEDULED_DATE"])
        output = Path(environment["NIGHTCREW_OUTPUT_DIR"])
    except (KeyError, ValueError) as error:
        print(f"needs NIGHTCREW_SCHEDULED_DATE (as 2026-11-23) and NIGHTCREW_OUTPUT_DIR: {error}", file=sys.stderr)
        return USAGE_ERROR
    try:
        say(f"reading {MEASUREMENTS.name}")
        days = read_days(Path(environment.get("REPORT_DATA", str(MEASUREMENTS))))
        say(f"  {len(days)} days, {days[0].date} to {days[-1].date}, none missing")
        report = make_report(Record(days), scheduled, environment.get("NIGHTCREW_RUN_ID", ""), say)
    except BadDataError as error:
        print(f"bad data: {error}", file=sys.stderr)
        return DATA_ERROR
    say("writing report.html, summary.json, monthly.csv")
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.html").write_text(render(report), "utf-8")
    (output / "summary.json").write_text(json.dumps(_summary(report), indent=2, ensure_ascii=False) + "\n", "utf-8")
    _write_months(report, output / "monthly.csv")
    say("")
    say(report.headline)
    for when, what in report.notable:
        say(f"  {when}: {what}")
    return 0


def say(line: str) -> None:
    # Flushed at once: somebody may be following the log.
    print(line, flush=True)


def _summary(report: Report) -> dict[str, object]:
    return {
        "scheduled_date": report.scheduled.isoformat(),
        "shown_as": report.as_of.isoformat(),
        "headline": report.headline,
        "earlier_years": sorted(report.period.earlier),
        "season": {tile.name: _numbers(tile.comparison, tile.unit) for tile in report.tiles},
        "notable": [{"when": when, "what": what} for when, what in report.notable],
    }


def _numbers(comparison: Comparison, unit: str) -> dict[str, object]:
    return {
        "unit": unit,
        "value": round(comparison.now, 2),
        "normal": round(comparison.normal, 2),
        "difference": round(comparison.difference, 2),
        "interval": [round(comparison.low, 2), round(comparison.high, 2)],
        "is_clear": comparison.is_clear,
    }


def _write_months(report: Report, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        header = ["first_day", "last_day"]
        for kind in ("temperature_celsius", "rain_mm"):
            header += [kind, f"{kind}_normal", f"{kind}_difference_low", f"{kind}_difference_high"]
        table.writerow(header)
        for month in report.months:
            row: list[object] = [month.start, month.end]
            for found in (month.temperature, month.rain):
                row += [round(number, 2) for number in (found.now, found.normal, found.low, found.high)]
            table.writerow(row)


if __name__ == "__main__":
    sys.exit(main(os.environ))
