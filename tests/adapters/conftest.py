from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings
from moto import mock_aws

from nightcrew.adapters.exchange import S3Exchange
from nightcrew.adapters.job_store import DynamoJobs
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.table import Table
from tests.builders import LIMITS
from tests.stack.template import resource

REGION = "eu-west-1"
BUCKET = "exchange"
ROLE = "AROAROLE"

# How long an example takes says more of the machine than of the code.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def client(service: str) -> Any:
    """A client that never asks twice; made once, because most of its cost is reading the service's description.

    Its credentials open nothing: a call that escapes the emulation fails.
    """
    return boto3.client(
        service,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for clients that the code under test makes."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture
def table(aws: None) -> Table:
    """The table as the template makes it."""
    made = resource("Table")
    client("dynamodb").create_table(
        TableName="records",
        **{name: made[name] for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")},
    )
    return Table(client("dynamodb"), "records")


@pytest.fixture
def runs(table: Table) -> DynamoRuns:
    return DynamoRuns(table, LIMITS)


@pytest.fixture
def jobs(table: Table) -> DynamoJobs:
    return DynamoJobs(table)


@pytest.fixture
def exchange(aws: None) -> S3Exchange:
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return S3Exchange(client("s3"), BUCKET, ROLE)


def item_of(table: Table, key: dict[str, Any]) -> dict[str, Any]:
    item = table.get(key)
    assert item is not None
    return item


def record_of(item: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(item["record"]["S"])
    return record
