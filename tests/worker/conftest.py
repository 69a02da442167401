from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.cloud import BUCKET, REGION, ROLE, Cloud, Machine


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()
    assert cloud.violations == []


@pytest.fixture
def machine(cloud: Cloud, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(cloud, tmp_path / "machine")
    yield machine
    machine.unplug()


@pytest.fixture
def on_machine(cloud: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """This process sees what a worker's process sees."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.endpoint + "/imds")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud.endpoint)
    monkeypatch.setenv("NIGHTCREW_BUCKET", BUCKET)
    monkeypatch.setenv("NIGHTCREW_WORKER_ROLE_ID", ROLE)
    monkeypatch.setenv("AWS_REGION", REGION)
    return cloud
