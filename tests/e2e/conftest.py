"""One local stack for all end-to-end tests: the real template, deployed by sam, with IAM enforced."""

from __future__ import annotations

import pytest

from nightcrew_cli import local
from tests.e2e.night import ROOT, Night, quick_parameters


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    home = tmp_path_factory.mktemp("local")
    host = local.up(home=home, port=0, settings={"interruption_notice": 4.0, "terminated_retention": 600.0})
    try:
        deployment = local.deploy(host, project=ROOT, parameters=quick_parameters())
        night = Night(host=host, outputs=deployment.outputs, home=home)
        night.invoke("LifecycleName", {"Records": []})  # so that no test waits for the first cold start
        yield night
    finally:
        local.down(home)


@pytest.fixture(autouse=True)
def _undisturbed(request):
    """Faults of one test must not reach the next."""
    yield
    if "night" in request.fixturenames:
        request.getfixturevalue("night").host.control.faults(clear=True)
