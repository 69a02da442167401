"""The launcher: from a tick, or a retry that is due, to a worker. The only role that may launch."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from nightcrew import wiring
from nightcrew.adapters.envelopes import parse_tick
from nightcrew.domain.lifecycle import Decision
from nightcrew.usecases.launch import Launch
from nightcrew.usecases.settings import Settings

logger = Logger(service="launcher")
metrics = Metrics(service="launcher")


def log_decision(decision: Decision) -> None:
    run = decision.run
    logger.info(decision.reason, extra={"run_id": run.run_id, "status": run.status, "outcome": run.outcome})


@cache
def use_case() -> Launch:
    return wiring.launch(Settings.from_env(os.environ), log_decision)  # noqa: TID251 the one reader


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def lambda_handler(payload: dict[str, Any], _context: LambdaContext) -> dict[str, str]:
    resumed = payload.get("resume")
    decision = use_case().resume(str(resumed)) if resumed else use_case().tick(parse_tick(payload))
    metrics.add_metric(name="RunsCarriedOn", unit=MetricUnit.Count, value=1)
    return {"run_id": decision.run.run_id, "status": decision.run.status.value, "reason": decision.reason}
