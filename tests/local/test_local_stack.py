"""The local stack end to end: the real host, the real sam, real processes."""

import json
from datetime import UTC, datetime
from typing import Any

import botocore.exceptions
import pytest

from nightcrew_cli.local import LocalError, clock
from nightcrew_cli.local.settings import is_alive
from tests.local.local_stack import LocalStack

pytestmark = pytest.mark.local
SPOT = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}


def code_of(error: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_worker_boots_reads_its_metadata_and_switches_itself_off(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_console(instance_id, "role")
    worker = stack.control.instance(instance_id)
    assert worker is not None
    assert worker.pid is not None
    assert is_alive(worker.pid)
    assert worker.power_off_in == 90 * 0.5

    (stack_folder(stack, instance_id) / "nightcrew" / "finish").touch()

    stack.wait_for_state(instance_id, "terminated")
    assert not is_alive(worker.pid)
    assert f"booted {instance_id} run-1" in stack.control.console(instance_id)
    described = stack.describe(instance_id)
    assert described["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert stack.states_told(instance_id) == ["pending", "running", "shutting-down", "terminated"]


def test_everything_of_a_fleet_is_tagged_and_goes_with_the_instance(stack: LocalStack) -> None:
    ec2 = stack.client("ec2")
    instance_id = stack.launch_one()
    mine = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    volume = ec2.describe_volumes(Filters=mine)["Volumes"][0]
    interface = ec2.describe_network_interfaces(Filters=mine)["NetworkInterfaces"][0]

    ec2.terminate_instances(InstanceIds=[instance_id])

    assert {"Key": "nightcrew:stack", "Value": "small"} in volume["Tags"]
    assert {"Key": "nightcrew:stack", "Value": "small"} in interface["TagSet"]
    stack.wait_for_state(instance_id, "terminated")
    assert not ec2.describe_volumes(Filters=mine)["Volumes"]
    assert not ec2.describe_network_interfaces(Filters=mine)["NetworkInterfaces"]
    described = stack.describe(instance_id)
    assert described["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert described["StateTransitionReason"].startswith("User initiated (")
    assert {"Key": "nightcrew:run", "Value": "run-1"} in described["Tags"]


def test_a_volume_that_is_not_to_go_stays_behind(stack: LocalStack) -> None:
    ec2 = stack.client("ec2")
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "DeleteOnTermination": False}}
    config = stack.template_config({"InstanceType": "m7g.large", "BlockDeviceMappings": [disk]})
    instance_id = stack.launch_one(LaunchTemplateConfigs=[config])
    mine = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    volume_id = ec2.describe_volumes(Filters=mine)["Volumes"][0]["VolumeId"]

    ec2.terminate_instances(InstanceIds=[instance_id])

    stack.wait_for_state(instance_id, "terminated")
    volume = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
    assert (volume["State"], volume["Size"]) == ("available", 30)


def test_the_same_token_launches_once_and_a_changed_request_is_refused(stack: LocalStack) -> None:
    first = stack.launch("token-1")

    second = stack.launch("token-1")

    assert second["Instances"] == first["Instances"]
    assert second["FleetId"] == first["FleetId"]
    changed = stack.template_config({"InstanceType": "r7g.large"})
    with pytest.raises(botocore.exceptions.ClientError) as error:
        stack.launch("token-1", LaunchTemplateConfigs=[changed])
    assert code_of(error) == "IdempotentParameterMismatch"


def test_run_instances_counts_its_token_per_zone_and_refuses_a_dead_one(stack: LocalStack) -> None:
    ec2 = stack.client("ec2")

    def run(zone: str) -> str:
        answer = ec2.run_instances(
            ImageId="ami-12345678",
            InstanceType="m7g.large",
            MinCount=1,
            MaxCount=1,
            Placement={"AvailabilityZone": zone},
            ClientToken="token-run",
        )
        return str(answer["Instances"][0]["InstanceId"])

    first, again, elsewhere = run("us-east-1a"), run("us-east-1a"), run("us-east-1b")

    assert first == again
    assert first != elsewhere
    ec2.terminate_instances(InstanceIds=[first, elsewhere])
    stack.wait_for_state(first, "terminated")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        run("us-east-1a")
    assert code_of(error) == "IdempotentInstanceTerminated"


def test_dry_pools_are_passed_over_and_told(stack: LocalStack) -> None:
    stack.control.faults(pools=[{"instance_type": "c7g.large"}, {"zone": "us-east-1b", "available": 1}])
    overrides = [{"InstanceType": "c7g.large"}, {"InstanceType": "m7g.large", "AvailabilityZone": "us-east-1b"}]
    target = {"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "on-demand"}

    answer = stack.launch(LaunchTemplateConfigs=[stack.template_config(*overrides)], TargetCapacitySpecification=target)

    assert [part["InstanceType"] for part in answer["Instances"]] == ["m7g.large"]
    instance_id = answer["Instances"][0]["InstanceIds"][0]
    assert stack.describe(instance_id)["Placement"]["AvailabilityZone"] == "us-east-1b"
    assert {error["ErrorCode"] for error in answer["Errors"]} == {"InsufficientInstanceCapacity"}
    assert len(answer["Errors"]) == 2


def test_a_pool_that_cannot_boot_the_image_is_an_error_of_its_own(stack: LocalStack) -> None:
    overrides = [{"InstanceType": "m7i.large"}, {"InstanceType": "m7g.large"}]

    answer = stack.launch(LaunchTemplateConfigs=[stack.template_config(*overrides)])

    assert [part["InstanceType"] for part in answer["Instances"]] == ["m7g.large"]
    assert [error["ErrorCode"] for error in answer["Errors"]] == ["InvalidParameterValue"]


def test_any_image_of_the_users_own_can_be_described(stack: LocalStack) -> None:
    ec2 = stack.client("ec2")

    found = ec2.describe_images(ImageIds=["ami-0123456789abcdefa"])["Images"]

    assert found[0]["RootDeviceName"] == "/dev/xvda"
    with pytest.raises(botocore.exceptions.ClientError) as error:
        ec2.describe_images(ImageIds=["ami-00000000000000000"])
    assert code_of(error) == "InvalidAMIID.NotFound"


def test_a_spot_interruption_is_announced_and_carried_out(stack: LocalStack) -> None:
    instance_id = stack.launch_one(TargetCapacitySpecification=SPOT)
    stack.wait_for_state(instance_id, "running")
    assert stack.describe(instance_id)["InstanceLifecycle"] == "spot"
    with pytest.raises(botocore.exceptions.ClientError) as error:
        stack.client("ec2").stop_instances(InstanceIds=[instance_id])
    assert code_of(error) == "UnsupportedOperation"

    stack.control.interrupt(instance_id, notice=0.5)

    stack.wait_for_state(instance_id, "terminated")
    assert stack.describe(instance_id)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert stack.states_told(instance_id) == ["pending", "running", "terminate", "shutting-down", "terminated"]


def test_a_killed_guest_leaves_the_instance_running(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_console(instance_id, "role")

    stack.control.kill_guest(instance_id)

    assert clock.wait_until(lambda: not stack.control.instance(instance_id).guest_alive, 5.0)
    assert stack.describe(instance_id)["State"]["Name"] == "running"
    stack.control.crash(instance_id)
    stack.wait_for_state(instance_id, "terminated")
    assert stack.describe(instance_id)["StateReason"]["Code"] == "Server.InternalError"


def test_a_hanging_guest_can_still_be_terminated(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_console(instance_id, "role")
    pid = stack.control.instance(instance_id).pid
    stack.control.hang(instance_id)

    stack.client("ec2").terminate_instances(InstanceIds=[instance_id])

    stack.wait_for_state(instance_id, "terminated", seconds=15.0)
    assert not is_alive(pid)


def test_an_on_demand_instance_stops_and_starts_without_booting_again(stack: LocalStack) -> None:
    ec2 = stack.client("ec2")
    instance_id = stack.launch_one()
    stack.wait_for_console(instance_id, "role")

    ec2.stop_instances(InstanceIds=[instance_id])

    stack.wait_for_state(instance_id, "stopped")
    ec2.start_instances(InstanceIds=[instance_id])
    stack.wait_for_state(instance_id, "running")
    assert stack.control.console(instance_id).count("booted") == 1
    ec2.terminate_instances(InstanceIds=[instance_id])


def test_one_bad_id_fails_the_whole_termination(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_state(instance_id, "running")

    with pytest.raises(botocore.exceptions.ClientError) as error:
        stack.client("ec2").terminate_instances(InstanceIds=[instance_id, "i-0123456789abcdef0"])

    assert code_of(error) == "InvalidInstanceID.NotFound"
    assert stack.describe(instance_id)["State"]["Name"] == "running"


def test_a_worker_writes_under_its_own_name_only(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_state(instance_id, "running")
    bucket, role_id = stack.deployment.outputs["BucketName"], stack.deployment.outputs["WorkerRoleId"]
    stack.client("s3").put_object(Bucket=bucket, Key="launches/a/roster.json", Body=b"{}")
    worker = stack.client("s3", **worker_credentials(stack, instance_id))

    worker.put_object(Bucket=bucket, Key=f"workers/{role_id}:{instance_id}/a/result.json", Body=b"{}")

    assert worker.get_object(Bucket=bucket, Key="launches/a/roster.json")["Body"].read() == b"{}"
    for refused in (
        lambda: worker.put_object(Bucket=bucket, Key=f"workers/{role_id}:i-00000000/a/result.json", Body=b"{}"),
        lambda: worker.get_object(Bucket=bucket, Key="launches/b/roster.json"),
        lambda: worker.get_object(Bucket=bucket, Key=f"workers/{role_id}:{instance_id}/a/result.json"),
        lambda: worker.list_objects_v2(Bucket=bucket),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            refused()
        assert code_of(error) == "AccessDenied"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_metadata_needs_a_token(stack: LocalStack) -> None:
    instance_id = stack.launch_one()

    assert metadata(stack, instance_id, "meta-data/instance-id", token="none")[0] == 401
    assert metadata(stack, instance_id, "meta-data/instance-id") == (200, instance_id)
    assert metadata(stack, instance_id, "meta-data/tags/instance/nightcrew:run") == (200, "run-1")
    assert metadata(stack, instance_id, "meta-data/spot/instance-action")[0] == 404
    assert metadata(stack, instance_id, "meta-data/placement/region") == (200, "us-east-1")


def test_a_function_sees_its_layer_its_role_and_no_more(stack: LocalStack) -> None:
    report = invoke(stack, {})

    assert report["layer"] == "from the layer"
    assert report["endpoint"] == stack.host.running.endpoint
    assert ":assumed-role/small-RecorderRole" in report["identity"]
    assert not report["sees_host_packages"]


def test_a_function_launches_only_what_its_role_allows(stack: LocalStack) -> None:
    def fleet(tag: str) -> dict[str, Any]:
        kinds = ("instance", "volume", "network-interface", "fleet")
        tags = [{"ResourceType": kind, "Tags": [{"Key": "nightcrew:stack", "Value": tag}]} for kind in kinds]
        return {
            "Type": "instant",
            "TagSpecifications": tags,
            "LaunchTemplateConfigs": [stack.template_config()],
            "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        }

    allowed = invoke(stack, call("ec2", "create_fleet", fleet("small")))["call"]
    refused = invoke(stack, call("ec2", "create_fleet", fleet("other")))["call"]

    assert refused["error"] == "UnauthorizedOperation"
    own = allowed["Instances"][0]["InstanceIds"][0]
    foreign = stack.launch_one(TagSpecifications=[])
    both = invoke(stack, call("ec2", "terminate_instances", {"InstanceIds": [own, foreign]}))["call"]
    assert both["error"] == "UnauthorizedOperation"
    assert stack.control.instance(foreign).state in ("pending", "running")
    mine = invoke(stack, call("ec2", "terminate_instances", {"InstanceIds": [own]}))["call"]
    assert mine["TerminatingInstances"][0]["CurrentState"]["Name"] == "shutting-down"


def test_a_tick_delivers_the_scheduled_time_to_the_function(stack: LocalStack) -> None:
    s3, bucket = stack.client("s3"), stack.deployment.outputs["BucketName"]

    delivered = stack.control.tick("nightly", datetime(2026, 11, 23, 1, 30, tzinfo=UTC))

    assert delivered["delivered"] == "true"

    def written() -> bool:
        return any(it["Key"] == "reports/tick.json" for it in s3.list_objects_v2(Bucket=bucket).get("Contents", []))

    assert clock.wait_until(written, 10.0)
    report = json.loads(s3.get_object(Bucket=bucket, Key="reports/tick.json")["Body"].read())
    assert report["event"]["scheduled_time"] == "2026-11-23T01:30:00Z"
    with pytest.raises(LocalError, match="no schedule"):
        stack.control.tick("unknown")


def test_events_can_be_lost_and_repeated(stack: LocalStack) -> None:
    stack.control.faults(
        events=[
            {"action": "drop", "source": "aws.ec2", "contains": '"pending"'},
            {"action": "duplicate", "source": "aws.ec2", "contains": '"running"', "times": 1},
        ]
    )
    before = len(stack.control.events())

    instance_id = stack.launch_one()

    stack.wait_for_state(instance_id, "running")
    assert stack.states_told(instance_id) == ["running", "running"]
    fates = [event["fate"] for event in stack.control.events(after=before)]
    assert fates == ["drop", "duplicate"]


def test_an_event_of_another_service_can_be_emitted(stack: LocalStack) -> None:
    before = stack.control.events()[-1]["number"]

    stack.control.emit("aws.health", "AWS Health Event", {"service": "EC2"}, resources=["i-1"])

    event = stack.control.events(after=before)[0]
    assert (event["source"], event["detail"]) == ("aws.health", {"service": "EC2"})


def test_an_answer_can_be_lost_after_the_call_acted(stack: LocalStack) -> None:
    stack.control.faults(calls=[{"call": "ec2:CreateFleet", "mode": "lose", "status": 0}])
    with pytest.raises(botocore.exceptions.BotoCoreError):
        stack.launch("token-lost")

    answer = stack.launch("token-lost")

    found = stack.client("ec2").describe_instances(Filters=[{"Name": "client-token", "Values": ["token-lost"]}])
    assert [it["Instances"][0]["InstanceId"] for it in found["Reservations"]] == answer["Instances"][0]["InstanceIds"]


def test_a_refused_call_does_nothing(stack: LocalStack) -> None:
    fault = {"call": "ec2:CreateFleet", "mode": "refuse", "code": "RequestLimitExceeded", "status": 503}
    stack.control.faults(calls=[fault])

    with pytest.raises(botocore.exceptions.ClientError) as error:
        stack.launch("token-refused")

    assert code_of(error) == "RequestLimitExceeded"
    found = stack.client("ec2").describe_instances(Filters=[{"Name": "client-token", "Values": ["token-refused"]}])
    assert not found["Reservations"]


def test_the_guests_own_timer_fires(stack: LocalStack) -> None:
    instance_id = stack.launch_one()
    stack.wait_for_console(instance_id, "role")

    switch = stack_folder(stack, instance_id) / "switch"
    switch.write_text("-P +1 the deadline\n")

    stack.wait_for_state(instance_id, "terminated")
    assert stack.describe(instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def stack_folder(stack: LocalStack, instance_id: str) -> Any:
    from pathlib import Path

    return Path(stack.control.instance(instance_id).folder)


def metadata(stack: LocalStack, instance_id: str, path: str, token: str = "") -> tuple[int, str]:
    import urllib.error
    import urllib.request

    base = f"{stack.host.running.endpoint}/_nightcrew/imds/{instance_id}/latest/"
    if not token:
        ask = urllib.request.Request(base + "api/token", method="PUT")
        ask.add_header("X-aws-ec2-metadata-token-ttl-seconds", "60")
        with urllib.request.urlopen(ask) as answer:
            token = answer.read().decode()
    request = urllib.request.Request(base + path, headers={"X-aws-ec2-metadata-token": token})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def worker_credentials(stack: LocalStack, instance_id: str) -> dict[str, str]:
    role = metadata(stack, instance_id, "meta-data/iam/security-credentials/")[1]
    found = json.loads(metadata(stack, instance_id, f"meta-data/iam/security-credentials/{role}")[1])
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["Token"],
    }


def call(service: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"call": {"service": service, "name": name, "arguments": arguments}}


def invoke(stack: LocalStack, event: dict[str, Any]) -> dict[str, Any]:
    name = stack.deployment.outputs["RecorderName"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return dict(payload)
