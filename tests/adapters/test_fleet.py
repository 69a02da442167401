from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber

from nightcrew import wiring
from nightcrew.adapters.fleet import Ec2Fleet, create_fleet_request
from nightcrew.domain.job import CapacityType
from nightcrew.domain.lifecycle import Launched, Refused, decide, launch_request
from nightcrew.domain.plan import LaunchRequest, RefusalKind
from nightcrew.domain.run import Worker
from nightcrew.usecases.errors import AmbiguousLaunchError
from nightcrew.usecases.ports import LaunchRefused
from nightcrew.usecases.settings import Settings
from tests.adapters.conftest import client
from tests.builders import LIMITS, NOW, make_job, make_run, make_worker

GOLDEN = Path(__file__).parent / "golden"
SPOT = launch_request(make_run())
SETTINGS = Settings.from_env(
    {
        "NIGHTCREW_STACK": "nightcrew",
        "NIGHTCREW_TABLE": "records",
        "NIGHTCREW_BUCKET": "exchange",
        "NIGHTCREW_LAUNCH_TEMPLATE": "lt-0123456789abcdef0",
        "NIGHTCREW_LAUNCH_TEMPLATE_VERSION": "3",
        "NIGHTCREW_WORKER_ROLE_ID": "AROAROLE",
        "NIGHTCREW_LAUNCHER": "nightcrew-launcher",
        "NIGHTCREW_TOPIC": "arn:aws:sns:eu-west-1:123456789012:nightcrew",
        "NIGHTCREW_GRACE_SECONDS": "120",
        "NIGHTCREW_CHECK_SECONDS": "300",
        "NIGHTCREW_STOPPED_WORKER_HOURS": "72",
        "NIGHTCREW_MAX_WORKER_HOURS": "168",
    }
)


def on_demand() -> LaunchRequest:
    return launch_request(
        make_run(make_job(capacity_type=CapacityType.ON_DEMAND, disk_gib=None, tags={"team": "data"}))
    )


@pytest.fixture
def fleet() -> Ec2Fleet:
    return Ec2Fleet(client("ec2"))


def answer(fleet: Ec2Fleet, **content: Any) -> Worker | LaunchRefused:
    with Stubber(fleet.client) as stub:
        stub.add_response("create_fleet", {"FleetId": "fleet-1", **content}, create_fleet_request(SPOT))
        return fleet.launch(SPOT)


def refusal(fleet: Ec2Fleet, code: str, status: int = 400, message: str = "so it is") -> LaunchRefused:
    with Stubber(fleet.client) as stub:
        stub.add_client_error("create_fleet", code, message, status)
        refused = fleet.launch(SPOT)
    assert isinstance(refused, LaunchRefused)
    return refused


def pool_error(code: str, instance_type: str = "m7g.large", message: str = "so it is") -> dict[str, Any]:
    overrides = {"InstanceType": instance_type, "AvailabilityZone": "eu-west-1a"}
    return {
        "LaunchTemplateAndOverrides": {"Overrides": overrides},
        "Lifecycle": "spot",
        "ErrorCode": code,
        "ErrorMessage": message,
    }


# ---- The request -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "request_"), [("create-fleet-spot.json", SPOT), ("create-fleet-on-demand.json", on_demand())]
)
def test_the_call_is_word_for_word_what_was_reviewed(name: str, request_: LaunchRequest) -> None:
    """When a change is meant, write the new call into the file and look at the difference."""
    reviewed = json.loads((GOLDEN / name).read_text(encoding="utf-8"))

    assert create_fleet_request(request_) == reviewed


def test_the_same_attempt_always_makes_the_same_call() -> None:
    run = make_run()
    later = make_run(message="noted", version=7, updated_at=NOW)

    assert create_fleet_request(launch_request(run)) == create_fleet_request(launch_request(later))


def test_everything_that_the_launch_makes_is_tagged_as_ours() -> None:
    kinds = {
        item["ResourceType"]: {tag["Key"] for tag in item["Tags"]}
        for item in create_fleet_request(SPOT)["TagSpecifications"]
    }

    assert set(kinds) == {"instance", "volume", "network-interface", "fleet"}
    for keys in kinds.values():
        assert {"nightcrew:stack", "nightcrew:run", "nightcrew:launch", "nightcrew:deadline"} <= keys


# ---- A worker ----------------------------------------------------------------------------------------------


def launched(**overrides: str) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": {"Overrides": overrides},
        "Lifecycle": "spot",
        "InstanceIds": ["i-0abc"],
        "InstanceType": "m6g.large",
    }


@pytest.mark.parametrize("overrides", [{"SubnetId": "subnet-b"}, {"AvailabilityZone": "eu-west-1b"}])
def test_an_answer_with_an_instance_is_a_worker_in_its_zone(fleet: Ec2Fleet, overrides: dict[str, str]) -> None:
    worker = answer(fleet, Instances=[launched(**overrides)])

    assert worker == Worker(instance_id="i-0abc", instance_type="m6g.large", capacity_type="spot", zone="eu-west-1b")


def test_pools_that_refused_do_not_hide_the_one_that_gave(fleet: Ec2Fleet) -> None:
    errors = [pool_error("InsufficientInstanceCapacity"), pool_error("UnauthorizedOperation")]

    worker = answer(fleet, Instances=[launched(SubnetId="subnet-a")], Errors=errors)

    assert isinstance(worker, Worker)
    assert worker.instance_id == "i-0abc"


# ---- Refused as a whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RequestLimitExceeded", 503, RefusalKind.THROTTLED),
        ("EC2ThrottledException", 400, RefusalKind.THROTTLED),
        ("InsufficientInstanceCapacity", 500, RefusalKind.CAPACITY),
        ("UnfulfillableCapacity", 400, RefusalKind.CAPACITY),
        ("SpotMaxPriceTooLow", 400, RefusalKind.CAPACITY),
        ("InsufficientFreeAddressesInSubnet", 400, RefusalKind.CAPACITY),
        ("VcpuLimitExceeded", 400, RefusalKind.QUOTA),
        ("MaxSpotInstanceCountExceeded", 400, RefusalKind.QUOTA),
        ("UnauthorizedOperation", 403, RefusalKind.PERMISSION),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, RefusalKind.PERMISSION),
        ("InvalidAMIID.NotFound", 400, RefusalKind.CONFIGURATION),
        ("IdempotentParameterMismatch", 400, RefusalKind.CONFIGURATION),
        ("NobodyHasEverSeenThis", 400, RefusalKind.CONFIGURATION),
        ("IdempotentInstanceTerminated", 400, RefusalKind.WORKER_GONE),
    ],
)
def test_a_refused_call_is_classified_by_what_we_do_about_it(
    fleet: Ec2Fleet, code: str, status: int, kind: RefusalKind
) -> None:
    refused = refusal(fleet, code, status)

    assert refused.kind is kind
    assert [(item.pool, item.code, item.message) for item in refused.refusals] == [("all pools", code, "so it is")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InternalError", 500),
        ("InternalFailure", 500),
        ("Unavailable", 503),
        ("ServiceUnavailable", 503),
        pytest.param("502", 502, id="a gateway in between"),
        pytest.param("504", 504, id="a gateway that would not wait"),
        pytest.param("NobodyHasEverSeenThis", 500, id="an error of AWS's own that nobody knows"),
    ],
)
def test_an_error_on_their_side_may_have_launched_something(fleet: Ec2Fleet, code: str, status: int) -> None:
    with pytest.raises(AmbiguousLaunchError, match=f"{SPOT.launch}: {code}"):
        refusal(fleet, code, status)


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url="https://ec2"),
        ConnectTimeoutError(endpoint_url="https://ec2"),
        EndpointConnectionError(endpoint_url="https://ec2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_answer_may_have_launched_something(fleet: Ec2Fleet, error: Exception) -> None:
    def fail(**_: Any) -> None:
        raise error

    events = fleet.client.meta.events
    events.register("before-send.ec2.CreateFleet", fail)

    try:
        with pytest.raises(AmbiguousLaunchError, match="repeated as it is"):
            fleet.launch(SPOT)
    finally:
        events.unregister("before-send.ec2.CreateFleet", fail)


# ---- Refused pool by pool ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        pytest.param(
            ["InsufficientInstanceCapacity", "VcpuLimitExceeded"], RefusalKind.CAPACITY, id="full before quota"
        ),
        pytest.param(["VcpuLimitExceeded", "UnauthorizedOperation"], RefusalKind.QUOTA, id="quota before denied"),
        pytest.param(
            ["InsufficientInstanceCapacity", "RequestLimitExceeded"], RefusalKind.THROTTLED, id="throttled before full"
        ),
        pytest.param(
            ["InvalidParameterValue", "InsufficientInstanceCapacity"],
            RefusalKind.CAPACITY,
            id="one wrong pool is not the end of the others",
        ),
        pytest.param(["UnauthorizedOperation"] * 2, RefusalKind.PERMISSION, id="denied everywhere"),
        pytest.param(["InvalidParameterValue"] * 2, RefusalKind.CONFIGURATION, id="wrong everywhere"),
    ],
)
def test_a_launch_is_as_hopeless_as_its_most_hopeful_pool(fleet: Ec2Fleet, codes: list[str], kind: RefusalKind) -> None:
    refused = answer(fleet, Instances=[], Errors=[pool_error(code) for code in codes])

    assert isinstance(refused, LaunchRefused)
    assert refused.kind is kind
    assert [item.code for item in refused.refusals] == codes


def test_an_answer_without_instances_and_without_errors_is_no_capacity(fleet: Ec2Fleet) -> None:
    assert answer(fleet, Instances=[], Errors=[]) == LaunchRefused(RefusalKind.CAPACITY, ())


def test_each_pool_is_named_and_each_answer_spelled_out_once(fleet: Ec2Fleet) -> None:
    long = "no\ncapacity " * 100
    errors = [
        pool_error("InsufficientInstanceCapacity", "m7g.large", long),
        pool_error("InsufficientInstanceCapacity", "m6g.large", "the same once more"),
        pool_error("VcpuLimitExceeded", "c7g.large", "quota"),
    ]

    refused = answer(fleet, Errors=errors)

    assert isinstance(refused, LaunchRefused)
    said = {item.pool: item.message for item in refused.refusals}
    assert said["m7g.large/eu-west-1a"].startswith("no capacity no capacity")
    assert len(said["m7g.large/eu-west-1a"]) <= 300
    assert (said["m6g.large/eu-west-1a"], said["c7g.large/eu-west-1a"]) == ("", "quota")


def test_the_runs_history_says_what_the_pools_answered(fleet: Ec2Fleet) -> None:
    errors = [pool_error("InsufficientInstanceCapacity", kind, "sold out") for kind in ("m7g.large", "m6g.large")]
    refused = answer(fleet, Errors=errors)
    assert isinstance(refused, LaunchRefused)

    decision = decide(make_run(), Refused(1, 0, refused.kind, refused.refusals), NOW, LIMITS)

    assert "InsufficientInstanceCapacity in 2 pools: sold out" in decision.reason


# ---- One attempt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [("InsufficientInstanceCapacity", 500), ("RequestLimitExceeded", 503), ("InternalError", 500)],
)
def test_the_launchers_own_client_asks_exactly_once(code: str, status: int) -> None:
    client = wiring.launch(SETTINGS).fleet.client
    sent: list[Any] = []

    def respond(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"
        raw: Any = type("Raw", (), {"stream": lambda self, *a, **k: iter([body.encode()])})()
        return AWSResponse(request.url, status, {}, raw)

    client.meta.events.register("before-send.ec2.CreateFleet", respond)

    try:
        outcome: Any = Ec2Fleet(client).launch(SPOT)
        assert outcome.refusals[0].code == code
    except AmbiguousLaunchError as error:
        assert code in str(error)  # noqa: PT017

    assert len(sent) == 1


def test_a_worker_that_is_launched_is_the_one_that_the_run_records(fleet: Ec2Fleet) -> None:
    worker = answer(fleet, Instances=[launched(SubnetId="subnet-a")])
    assert isinstance(worker, Worker)

    run = decide(make_run(), Launched(1, worker), NOW, LIMITS).run

    assert run.attempt is not None
    assert run.attempt.worker == worker != make_worker()
