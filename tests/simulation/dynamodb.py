"""DynamoDB: one table with its conditions, a strongly consistent table and an index that lags behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.calls import Client, client_error

if TYPE_CHECKING:
    from tests.simulation.dice import Dice
    from tests.simulation.kernel import Kernel
    from tests.simulation.world import World

Item = dict[str, Any]
Key = tuple[str, str]
BATCH_GET_LIMIT = 100
INDEXES = {"due": ("due", "due_at"), "by-job": ("job", "scheduled_at")}


def key_of(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


@dataclass(eq=False)
class Table:
    """`written` sees every change, with the item before it: invariants are checked there."""

    kernel: Kernel
    dice: Dice
    items: dict[Key, Item] = field(default_factory=dict)
    written: Callable[[Item | None, Item | None], None] = lambda before, after: None
    _indexed: dict[Key, Item] = field(default_factory=dict)
    _pending: list[tuple[float, Key, Item | None]] = field(default_factory=list)

    def check(self, key: Key, condition: str | None, values: Item, operation: str) -> None:
        if condition and not _holds(condition, self.items.get(key), values):
            raise client_error("ConditionalCheckFailedException", "The conditional request failed", operation)

    def put(self, item: Item) -> None:
        self._change(key_of(item), dict(item))

    def _change(self, key: Key, item: Item | None) -> None:
        before = self.items.pop(key, None)
        if item is not None:
            self.items[key] = item
        self.written(before, item)
        lag = self.dice.between(0, 0.2, "index")
        if self.dice.fault("index_lag"):
            lag = self.dice.between(1, 30, "index")
        # Changes of one item reach the index in their order.
        seen = max([self.kernel.now + lag, *(when for when, waiting, _ in self._pending if waiting == key)])
        self._pending.append((seen, key, item))

    def delete(self, key: Key) -> None:
        self._change(key, None)

    def empty(self) -> None:
        """Everything is lost, at once."""
        self.items.clear()
        self._indexed.clear()
        self._pending.clear()

    def index(self, name: str) -> list[tuple[str, str, Key]]:
        """Return (partition, sort, key) of what the index shows now, in order."""
        waiting = []
        for change in self._pending:
            when, key, item = change
            if when > self.kernel.now:
                waiting.append(change)
            elif item is None:
                self._indexed.pop(key, None)
            else:
                self._indexed[key] = item
        self._pending = waiting
        partition, sort = INDEXES[name]
        return sorted(
            (item[partition]["S"], item[sort]["S"], key)
            for key, item in self._indexed.items()
            if partition in item and sort in item
        )


_EQUALS = re.compile(r"(\w+) = (:\w+)")
_NOT_EXISTS = re.compile(r"attribute_not_exists\((\w+)\)")


def _holds(condition: str, item: Item | None, values: Item) -> bool:
    for part in condition.split(" AND "):
        if missing := _NOT_EXISTS.fullmatch(part):
            if item is not None and missing[1] in item:
                return False
        elif equals := _EQUALS.fullmatch(part):
            if item is None or item.get(equals[1]) != values[equals[2]]:
                return False
        else:
            raise NotImplementedError(part)
    return True


class DynamoClient(Client):
    service = "dynamodb"

    def __init__(self, world: World, table: Table) -> None:
        super().__init__(world)
        self._table = table

    def get_item(self, *, TableName: str, Key: Item, ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803
        assert TableName
        assert ConsistentRead, "everything we decide on is read consistently"

        def act() -> dict[str, Any]:
            item = self._table.items.get(key_of(Key))
            return {"Item": item} if item is not None else {}

        return self._call("GetItem", act)

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        return self._call("BatchGetItem", lambda: self._batch_get(RequestItems))

    def _batch_get(self, requests: dict[str, Any]) -> dict[str, Any]:
        ((name, request),) = requests.items()
        keys = [key_of(key) for key in request["Keys"]]
        if len(set(keys)) < len(keys) or len(keys) > BATCH_GET_LIMIT:
            raise client_error("ValidationException", "duplicates, or too many keys", "BatchGetItem")
        served, left = keys, []
        if self._fault("unprocessed_keys"):
            served, left = keys[: len(keys) // 2], request["Keys"][len(keys) // 2 :]
        items = [self._table.items[key] for key in served if key in self._table.items]
        if "ProjectionExpression" in request:
            names = request["ProjectionExpression"].split(", ")
            items = [{name: item[name] for name in names if name in item} for item in items]
        answer: dict[str, Any] = {"Responses": {name: items}, "UnprocessedKeys": {}}
        if left:
            answer["UnprocessedKeys"] = {name: {**request, "Keys": left}}
        return answer

    def put_item(self, **request: Any) -> None:
        def act() -> None:
            if self._fault("conflict"):
                raise client_error("TransactionConflictException", "Transaction is ongoing for the item", "PutItem")
            item = request["Item"]
            values = request.get("ExpressionAttributeValues", {})
            self._table.check(key_of(item), request.get("ConditionExpression"), values, "PutItem")
            self._table.put(item)

        self._call("PutItem", act, writes=True)

    def delete_item(self, *, TableName: str, Key: Item) -> None:  # noqa: N803
        assert TableName
        self._call("DeleteItem", lambda: self._table.delete(key_of(Key)), writes=True)

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803
        done: list[bool] = []

        def act() -> None:
            # botocore gives each call a ClientRequestToken: its own repetitions are answered, not carried out.
            if not done:
                self._transact(TransactItems)
                done.append(True)

        self._call("TransactWriteItems", act, writes=True)

    def _transact(self, actions: list[dict[str, Any]]) -> None:
        if self._fault("conflict"):
            raise client_error("TransactionCanceledException", "[TransactionConflict, None]", "TransactWriteItems")
        puts = [action["Put"] for action in actions]
        for put in puts:
            values = put.get("ExpressionAttributeValues", {})
            if not _holds_put(put, values, self._table):
                raise client_error(
                    "TransactionCanceledException", "[ConditionalCheckFailed, None]", "TransactWriteItems"
                )
        for put in puts:
            self._table.put(put["Item"])

    def update_item(self, **request: Any) -> None:
        def act() -> None:
            key, values = key_of(request["Key"]), request["ExpressionAttributeValues"]
            self._table.check(key, request["ConditionExpression"], values, "UpdateItem")
            item = dict(self._table.items.get(key, request["Key"]))
            verb, _, clause = request["UpdateExpression"].partition(" ")
            for part in clause.split(", "):
                if verb == "REMOVE":
                    item.pop(part, None)
                else:
                    name, value = part.split(" = ")
                    item[name] = values[value]
            self._table.put(item)

        self._call("UpdateItem", act, writes=True)

    def query(self, **request: Any) -> dict[str, Any]:
        return self._call("Query", lambda: self._query(request))

    def _query(self, request: dict[str, Any]) -> dict[str, Any]:
        values = list(request["ExpressionAttributeValues"].values())
        newest = values[1]["S"] if len(values) > 1 else None
        found = [
            row
            for row in self._table.index(request["IndexName"])
            if row[0] == values[0]["S"] and (newest is None or row[1] <= newest)
        ]
        if "ExclusiveStartKey" in request:
            found = [row for row in found if row > request["ExclusiveStartKey"]["after"]]
        limit = min(request.get("Limit", 1000), self._world.query_page)
        page = found[:limit]
        answer: dict[str, Any] = {"Items": [{"pk": {"S": key[0]}, "sk": {"S": key[1]}} for _, _, key in page]}
        if len(found) > limit:
            answer["LastEvaluatedKey"] = {"after": page[-1]}
        return answer


def _holds_put(put: dict[str, Any], values: Item, table: Table) -> bool:
    condition = put.get("ConditionExpression")
    return condition is None or _holds(condition, table.items.get(key_of(put["Item"])), values)
