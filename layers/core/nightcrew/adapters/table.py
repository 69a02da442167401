"""The one DynamoDB table: its keys, and the low-level calls that the stores share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from nightcrew.adapters import aws_errors
from nightcrew.usecases.errors import UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What is due stands in one partition of this index. A sweep reads a handful of rows of it; thousands of
# runs that change at the same minute stay below one partition's 1,000 writes a second.
DUE_INDEX = "due"
DUE = "due"
JOB_INDEX = "by-job"

Item = dict[str, Any]
_BATCH_GET_LIMIT = 100
_BATCH_TRIES = 8


def key(partition: str, sort: str) -> Item:
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def run_key(run_id: str) -> Item:
    return key(f"RUN#{run_id}", "RUN")


def worker_key(instance_id: str) -> Item:
    return key(f"WORKER#{instance_id}", "WORKER")


@dataclass(frozen=True, slots=True)
class Table:
    client: DynamoDBClient
    name: str

    def get(self, item_key: Item) -> Item | None:
        try:
            answer = self.client.get_item(TableName=self.name, Key=item_key, ConsistentRead=True)
        except aws_errors.FAILURES as error:
            raise UnreadableError(f"table {self.name}: {aws_errors.message_of(error)}") from error
        return answer.get("Item")

    def batch_get(self, keys: Iterable[Item], *, attributes: str | None = None) -> Iterator[Item]:
        """Yield the items that exist. Raises UnreadableError when some could not be read."""
        waiting = iter(keys)
        while chunk := list(islice(waiting, _BATCH_GET_LIMIT)):
            request: Any = {"Keys": chunk, "ConsistentRead": True}
            if attributes:
                request["ProjectionExpression"] = attributes
            yield from self._batch_get(request)

    def _batch_get(self, request: Any) -> Iterator[Item]:
        pending: Mapping[str, Any] = {self.name: request}
        for _ in range(_BATCH_TRIES):
            try:
                answer = self.client.batch_get_item(RequestItems=pending)
            except aws_errors.FAILURES as error:
                raise UnreadableError(f"table {self.name}: {aws_errors.message_of(error)}") from error
            yield from answer["Responses"].get(self.name, [])
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                return
        raise UnreadableError(f"table {self.name}: {_BATCH_TRIES} reads left keys unprocessed")

    def query(self, **request: Any) -> Iterator[Item]:
        """Yield all pages. Raises UnreadableError."""
        try:
            while True:
                answer = self.client.query(TableName=self.name, **request)
                yield from answer["Items"]
                if "LastEvaluatedKey" not in answer:
                    return
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except aws_errors.FAILURES as error:
            raise UnreadableError(f"table {self.name}: {aws_errors.message_of(error)}") from error
