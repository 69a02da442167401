"""One suite of EC2's behaviour, for everything that stands in for EC2: what we prove over one must be true of all.

`simulated` is the EC2 of this folder, `local` the EC2 host of the local stack, `moto` the emulator of the adapters'
tests. moto knows no ClientToken, no capacity, no protection and no delays; it takes part where it is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from nightcrew.adapters.fleet import create_fleet_request
from nightcrew.domain.job import CapacityType
from nightcrew.domain.plan import Image, LaunchRequest, PlanStep, Pool, Template
from nightcrew_cli import local
from tests.simulation.plain import STORIES
from tests.simulation.world import World

TAGS = (("nightcrew:launch", "l1"), ("nightcrew:run", "r1"), ("nightcrew:stack", "nightcrew"))
GONE = "i-0f0f0f0f0f0f0f0f0"
QUICK = {"pending": 0.1, "stopping": 0.1, "shutting_down": 0.1, "shutdown_grace": 0.2, "terminated_retention": 30.0}

_tokens = count()


@dataclass
class Backend:
    """Something that stands in for EC2: its client, a launch that it accepts, and how to make its pools run dry."""

    name: str
    client: Any
    request: LaunchRequest
    wait: Callable[[], None]
    dry: Callable[[str], None]
    protect: Callable[[str], None]

    def fleet(self, request: LaunchRequest | None = None) -> dict[str, Any]:
        return dict(self.client.create_fleet(**create_fleet_request(request or self.new_request())))

    def new_request(self, **changes: Any) -> LaunchRequest:
        return replace(self.request, client_token=f"token-{next(_tokens)}-{time.time_ns()}", **changes)

    def start(self, **changes: Any) -> str:
        (instance_id,) = ids_of(self.fleet(self.new_request(**changes)))
        return instance_id

    def describe(self, instance_id: str) -> dict[str, Any] | None:
        filters = [{"Name": "instance-id", "Values": [instance_id]}]
        pages = self.client.get_paginator("describe_instances").paginate(Filters=filters)
        found = [it for page in pages for reservation in page["Reservations"] for it in reservation["Instances"]]
        return found[0] if found else None

    def until(self, instance_id: str, *states: str) -> str:
        for _ in range(200):
            found = self.describe(instance_id)
            if found and found["State"]["Name"] in states:
                return str(found["State"]["Name"])
            self.wait()
        raise AssertionError(f"{instance_id} did not become {states}: {self.describe(instance_id)}")


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [instance_id for launched in answer["Instances"] for instance_id in launched["InstanceIds"]]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


# ---- The three -----------------------------------------------------------------------------------------------


def _request(template: Template, image: str, pools: tuple[Pool, ...]) -> LaunchRequest:
    return LaunchRequest(
        client_token="",
        launch="l1",
        template=template,
        image=Image(image, "/dev/xvda"),
        disk_gib=8,
        step=PlanStep(CapacityType.ON_DEMAND, pools),
        tags=TAGS,
    )


def simulated() -> Iterator[Backend]:
    world = World(STORIES["success"])
    # The promises are about Nightcrew's launches; these are the test's own.
    world.ec2.launched = lambda instance: None
    world.account.repeated = lambda request, ids, same: None
    dry: set[str] = set()
    world.account.is_dry = lambda instance_type, zone, capacity_type: "*" in dry or instance_type in dry

    def protect(instance_id: str) -> None:
        world.ec2.instances[instance_id].protected = True

    pools = (Pool("m7g.large", "subnet-a", "eu-west-1a"), Pool("m6g.large", "subnet-a", "eu-west-1a"))
    try:
        yield Backend(
            "simulated",
            world.client("ec2"),
            _request(Template(template_id="lt-1", version="1"), "ami-12345678", pools),
            wait=lambda: world.kernel.run(world.kernel.now + 5),
            dry=dry.add,
            protect=protect,
        )
    finally:
        world.close()


def _over_boto(name: str, client: Any, image: str, wait: Callable[[], None], dry: Callable[[str], None]) -> Backend:
    data: Any = {"InstanceInitiatedShutdownBehavior": "terminate"}
    created = client.create_launch_template(
        LaunchTemplateName=f"contract-{time.time_ns()}",
        LaunchTemplateData=data,
    )
    subnet = client.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0]
    place = (subnet["SubnetId"], subnet["AvailabilityZone"])
    template = Template(template_id=created["LaunchTemplate"]["LaunchTemplateId"], version="1")

    def protect(instance_id: str) -> None:
        client.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})

    pools = (Pool("m7g.large", *place), Pool("m6g.large", *place))
    return Backend(name, client, _request(template, image, pools), wait=wait, dry=dry, protect=protect)


def moto() -> Iterator[Backend]:
    with mock_aws():
        client = boto3.client("ec2", region_name="eu-west-1")
        yield _over_boto("moto", client, "ami-12345678", lambda: None, lambda _: None)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("contract")
    host = local.up(home=home, port=0, settings=QUICK)
    try:
        yield host
    finally:
        local.down(home)


def on_local_stack(request: pytest.FixtureRequest) -> Iterator[Backend]:
    host = request.getfixturevalue("host")
    client = boto3.client(
        "ec2",
        region_name=host.running.region,
        endpoint_url=host.running.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def dry(instance_type: str) -> None:
        host.control.faults(pools=[{"instance_type": instance_type}])

    try:
        yield _over_boto("local", client, "ami-12345678", lambda: time.sleep(0.05), dry)
    finally:
        host.control.faults(clear=True)


def _backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    makers = {"simulated": simulated, "moto": moto, "local": lambda: on_local_stack(request)}
    yield from makers[request.param]()


_LOCAL = pytest.param("local", marks=pytest.mark.local)


@pytest.fixture(params=["simulated", "moto", _LOCAL])
def ec2(request: pytest.FixtureRequest) -> Iterator[Backend]:
    yield from _backend(request)


@pytest.fixture(params=["simulated", _LOCAL])
def true_ec2(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Without moto."""
    yield from _backend(request)


# ---- Launching -----------------------------------------------------------------------------------------------


def test_the_tags_of_the_call_are_on_the_instance_from_the_start(ec2: Backend) -> None:
    found = ec2.describe(ec2.start())

    assert found
    tags = {item["Key"]: item["Value"] for item in found["Tags"]}
    assert {name: tags[name] for name, _ in TAGS} == dict(TAGS)


def test_a_repeated_call_gives_the_same_worker(true_ec2: Backend) -> None:
    request = true_ec2.new_request()

    assert ids_of(true_ec2.fleet(request)) == ids_of(true_ec2.fleet(request))


def test_a_repeated_call_gives_the_same_worker_in_another_state(true_ec2: Backend) -> None:
    request = true_ec2.new_request()
    (first,) = ids_of(true_ec2.fleet(request))
    true_ec2.until(first, "running")

    assert ids_of(true_ec2.fleet(request)) == [first]


def test_a_changed_call_under_a_used_token_is_refused(true_ec2: Backend) -> None:
    request = true_ec2.new_request()
    true_ec2.fleet(request)

    changed = replace(request, disk_gib=9)

    assert code_of(lambda: true_ec2.fleet(changed)) == "IdempotentParameterMismatch"


def test_the_token_of_an_ended_worker_gives_no_other_worker(true_ec2: Backend) -> None:
    request = true_ec2.new_request()
    (first,) = ids_of(true_ec2.fleet(request))
    true_ec2.client.terminate_instances(InstanceIds=[first])
    true_ec2.until(first, "terminated")

    try:
        again = ids_of(true_ec2.fleet(request))
    except ClientError as error:
        assert error.response["Error"]["Code"] == "IdempotentInstanceTerminated"  # noqa: PT017 - one of two answers
    else:
        assert again == [first]


def test_a_sold_out_pool_is_an_error_in_a_successful_answer(true_ec2: Backend) -> None:
    true_ec2.dry("*")

    answer = true_ec2.fleet()

    assert ids_of(answer) == []
    assert len(answer["Errors"]) == 2
    assert all(error["ErrorCode"] and error["LaunchTemplateAndOverrides"]["Overrides"] for error in answer["Errors"])


def test_the_next_pool_gives_what_a_sold_out_one_does_not(true_ec2: Backend) -> None:
    true_ec2.dry("m7g.large")

    answer = true_ec2.fleet()

    assert len(ids_of(answer)) == 1
    assert answer["Instances"][0]["InstanceType"] == "m6g.large"
    assert len(answer["Errors"]) == 1


def test_an_empty_answer_is_repeated_for_its_token(true_ec2: Backend) -> None:
    request = true_ec2.new_request()
    true_ec2.dry("*")
    true_ec2.fleet(request)

    assert ids_of(true_ec2.fleet(request)) == []


# ---- Looking and ending --------------------------------------------------------------------------------------


def test_an_unknown_instance_is_left_out_of_a_filtered_description(ec2: Backend) -> None:
    assert ec2.describe(GONE) is None


def test_a_worker_begins_to_run(ec2: Backend) -> None:
    assert ec2.until(ec2.start(), "running")


def test_one_unknown_id_fails_the_whole_call(ec2: Backend) -> None:
    instance_id = ec2.start()
    ec2.until(instance_id, "running")

    code = code_of(lambda: ec2.client.terminate_instances(InstanceIds=[instance_id, GONE]))

    assert code == "InvalidInstanceID.NotFound"
    assert ec2.until(instance_id, "pending", "running", "shutting-down", "terminated") == "running"


def test_a_worker_may_be_terminated_twice_and_is_seen_for_a_while(ec2: Backend) -> None:
    instance_id = ec2.start()

    ec2.client.terminate_instances(InstanceIds=[instance_id])
    ec2.until(instance_id, "terminated")
    ec2.client.terminate_instances(InstanceIds=[instance_id])

    found = ec2.describe(instance_id)
    assert found
    assert found["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_stopped_worker_stays_until_it_is_terminated(ec2: Backend) -> None:
    instance_id = ec2.start()
    ec2.until(instance_id, "running")

    ec2.client.stop_instances(InstanceIds=[instance_id])
    ec2.until(instance_id, "stopped")
    ec2.client.terminate_instances(InstanceIds=[instance_id])

    assert ec2.until(instance_id, "terminated")


def test_a_pending_worker_cannot_be_stopped(true_ec2: Backend) -> None:
    instance_id = true_ec2.start()

    code = code_of(lambda: true_ec2.client.stop_instances(InstanceIds=[instance_id]))

    assert code == "IncorrectInstanceState"


def test_a_spot_worker_cannot_be_stopped(true_ec2: Backend) -> None:
    step = replace(true_ec2.request.step, capacity_type=CapacityType.SPOT)
    instance_id = true_ec2.start(step=step)
    true_ec2.until(instance_id, "running")

    code = code_of(lambda: true_ec2.client.stop_instances(InstanceIds=[instance_id]))

    assert code == "UnsupportedOperation"


def test_a_protected_worker_keeps_the_others_of_its_zone(true_ec2: Backend) -> None:
    protected, other = true_ec2.start(), true_ec2.start()
    for instance_id in (protected, other):
        true_ec2.until(instance_id, "running")
    true_ec2.protect(protected)

    code = code_of(lambda: true_ec2.client.terminate_instances(InstanceIds=[protected, other]))

    assert code == "OperationNotPermitted"
    assert [true_ec2.until(it, "running", "shutting-down") for it in (protected, other)] == ["running", "running"]


def test_disk_and_interface_are_tagged_and_go_with_their_worker(true_ec2: Backend) -> None:
    tags = (("nightcrew:launch", f"l{next(_tokens)}"), ("nightcrew:stack", "nightcrew"))

    def states() -> list[str]:
        filters = [
            {"Name": "tag:nightcrew:launch", "Values": [tags[0][1]]},
            {"Name": "status", "Values": ["available", "in-use"]},
        ]
        volumes = true_ec2.client.get_paginator("describe_volumes").paginate(Filters=filters)
        interfaces = true_ec2.client.get_paginator("describe_network_interfaces").paginate(Filters=filters)
        return [it["VolumeId"] for page in volumes for it in page["Volumes"]] + [
            it["NetworkInterfaceId"] for page in interfaces for it in page["NetworkInterfaces"]
        ]

    instance_id = true_ec2.start(tags=tags)
    owned = states()
    true_ec2.client.terminate_instances(InstanceIds=[instance_id])
    true_ec2.until(instance_id, "terminated")

    assert [it.partition("-")[0] for it in owned] == ["vol", "eni"]
    assert states() == []
