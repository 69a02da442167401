"""The local stack that the tests of this folder share: one host, one small template, short delays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrew_cli.local import deploy, down, up
from tests.local.local_stack import LocalStack

PROJECT = Path(__file__).parent / "project"
QUICK = {
    "pending": 0.1,
    "stopping": 0.1,
    "shutting_down": 0.1,
    "shutdown_grace": 0.5,
    "minute": 0.5,
    "terminated_retention": 20.0,
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    home = tmp_path_factory.mktemp("local")
    host = up(home=home, port=0, settings=QUICK)
    try:
        yield LocalStack(host, deploy(host, project=PROJECT, stack="small"))
    finally:
        down(home)


@pytest.fixture(autouse=True)
def _without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").control.faults(clear=True)
