"""The reaper: the sweeps that make right what events failed to."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from nightcrew import wiring
from nightcrew.usecases.errors import SweepError
from nightcrew.usecases.reap import DueSweep, InventorySweep, Tally
from nightcrew.usecases.settings import Settings

logger = Logger(service="reaper")
# The use cases log each decision under this name; they know nothing of Powertools.
copy_config_to_registered_loggers(logger, include={"nightcrew"})
# One name for all functions, so that one alarm hears them all.
metrics = Metrics(service="nightcrew")


@cache
def sweeps() -> dict[str, DueSweep | InventorySweep]:
    settings = Settings.from_env(os.environ)  # noqa: TID251 the one reader
    return {
        "due": wiring.due_sweep(settings),
        "inventory": wiring.inventory_sweep(settings),
    }


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(payload: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    name = str(payload.get("sweep"))
    if name not in sweeps():
        raise SweepError(f"no sweep is called {name!r}: use 'due' or 'inventory'")
    tally = sweeps()[name].sweep()
    logger.info("sweep done", extra={"sweep": name, "tally": tally.as_counts(), "failures": tally.failures})
    report(name, tally)
    if tally.failures:
        # After the whole pass, so that one bad item stops nothing; loud, so that somebody looks.
        raise SweepError(f"{name} sweep: {len(tally.failures)} item(s) failed: {'; '.join(tally.failures)[:500]}")
    return {"sweep": name, **tally.as_counts()}


def report(name: str, tally: Tally) -> None:
    """Emit what the alarms watch. A sweep counts as completed only when nothing in it failed."""
    completed = "DueSweepCompleted" if name == "due" else "InventorySweepCompleted"
    metrics.add_metric(name=completed, unit=MetricUnit.Count, value=0 if tally.failures else 1)
    for metric, value in (("RunsMissed", tally.missed), ("EndDenied", tally.denied), ("LeaksSpared", tally.spared)):
        if value:
            metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)
    if tally.leaks or tally.left_overs:
        metrics.add_metric(name="LeaksFound", unit=MetricUnit.Count, value=tally.leaks + tally.left_overs)
