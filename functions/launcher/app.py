"""The launcher: from a tick, or a retry that is due, to a worker. The only role that may launch."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from aws_lambda_powertools.utilities.typing import LambdaContext

from nightcrew import wiring
from nightcrew.adapters.envelopes import parse_tick
from nightcrew.domain.run import RunStatus
from nightcrew.usecases.launch import Launch
from nightcrew.usecases.settings import Settings

logger = Logger(service="launcher")
# The use cases log each decision under this name; they know nothing of Powertools.
copy_config_to_registered_loggers(logger, include={"nightcrew"})


@cache
def use_case() -> Launch:
    return wiring.launch(Settings.from_env(os.environ))  # noqa: TID251 the one reader


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(payload: dict[str, Any], _context: LambdaContext) -> dict[str, str]:
    resumed = payload.get("resume")
    decision = use_case().resume(str(resumed)) if resumed else use_case().tick(parse_tick(payload))
    if decision.run.status is RunStatus.MISSED:
        count_as_missed()
    return {"run_id": decision.run.run_id, "status": decision.run.status.value, "reason": decision.reason}


def count_as_missed() -> None:
    """Count a tick that came too late where the reaper counts those that never came: one alarm hears both."""
    dimensions = {"service": "nightcrew"}
    with single_metric(name="RunsMissed", unit=MetricUnit.Count, value=1, default_dimensions=dimensions):
        pass
