"""The lifecycle function: what EventBridge tells about workers and runs, in batches from the queue."""

import json
import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from nightcrew import wiring
from nightcrew.adapters.envelopes import parse_facts
from nightcrew.usecases.settings import Settings
from nightcrew.usecases.watch import Fact, Watch

logger = Logger(service="lifecycle")
# The use cases log each decision under this name; they know nothing of Powertools.
copy_config_to_registered_loggers(logger, include={"nightcrew"})


@cache
def use_case() -> Watch:
    return wiring.watch(Settings.from_env(os.environ))  # noqa: TID251 the one reader


def facts_in(body: str) -> tuple[Fact, ...]:
    """Return the facts of one message; none for what cannot be read, which then fails by itself."""
    try:
        return parse_facts(json.loads(body))
    except (ValueError, RecursionError):
        return ()


@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> PartialItemFailureResponse:
    records = event["Records"]
    facts = [fact for record in records for fact in facts_in(record["body"])]
    known = use_case().known(facts) if facts else {}

    def handle(record: SQSRecord) -> None:
        # Parsed again on purpose: a message that cannot be parsed must fail alone and reach the dead-letter queue.
        for fact in parse_facts(json.loads(record.body)):
            use_case().handle(fact, known)

    processor = BatchProcessor(event_type=EventType.SQS, logger=logger)
    with processor(records=records, handler=handle):
        processor.process()
    return processor.response()
