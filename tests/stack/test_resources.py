"""Settings of resources that a promise rests on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.domain.run import Limits, RunStatus
from tests.builders import NOW, make_run
from tests.stack.template import conditions_used, parameter, resource, resources, template

FUNCTIONS = resources("AWS::Serverless::Function")
QUEUES = resources("AWS::SQS::Queue")


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def batches() -> dict[str, Any]:
    """How the queue's messages reach the lifecycle function."""
    (event,) = resource("Lifecycle")["Events"].values()
    properties: dict[str, Any] = event["Properties"]
    return properties


def test_a_batch_stays_invisible_for_six_times_the_functions_timeout() -> None:
    assert batches()["Queue"] == arn("LifecycleQueue")
    assert resource("LifecycleQueue")["VisibilityTimeout"] >= 6 * resource("Lifecycle")["Timeout"]


def test_a_message_gets_five_tries_before_it_is_put_aside() -> None:
    redrive = resource("LifecycleQueue")["RedrivePolicy"]

    assert redrive["maxReceiveCount"] >= 5
    assert redrive["deadLetterTargetArn"] == arn("LifecycleDeadLetters")


def test_only_the_failed_messages_of_a_batch_come_again() -> None:
    assert batches()["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_dead_letters_are_kept_as_long_as_sqs_keeps_anything() -> None:
    kept = {name: resource(name)["MessageRetentionPeriod"] for name in ("LifecycleDeadLetters", "Undelivered")}

    assert kept == dict.fromkeys(kept, 14 * 24 * 3600)


@pytest.mark.parametrize("name", QUEUES)
def test_every_queue_is_encrypted(name: str) -> None:
    assert QUEUES[name]["SqsManagedSseEnabled"] is True


def test_the_launcher_is_over_before_its_launch_is_taken_for_a_crashed_one() -> None:
    assert resource("Launcher")["Timeout"] < parameter("GraceSeconds")


def test_no_due_sweep_outlives_the_gap_in_which_its_silence_is_noticed() -> None:
    assert resource("Reaper")["Timeout"] <= 300


def test_what_cannot_be_delivered_to_a_function_or_the_queue_is_kept() -> None:
    launcher = resource("Launcher")["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
    targets = [target for rule in resources("AWS::Events::Rule").values() for target in rule["Targets"]]

    assert launcher == {"Type": "SQS", "Destination": arn("Undelivered")}
    assert {target["Arn"]["Fn::GetAtt"][0] for target in targets} == {"LifecycleQueue"}
    assert [target["DeadLetterConfig"]["Arn"] for target in targets] == [arn("Undelivered")] * len(targets)


def test_both_sweeps_are_scheduled_as_often_as_was_promised() -> None:
    sweeps = {
        json.loads(schedule["Target"]["Input"])["sweep"]: schedule["ScheduleExpression"]
        for schedule in resources("AWS::Scheduler::Schedule").values()
        if schedule["Target"]["Arn"] == arn("Reaper") and schedule.get("State", "ENABLED") == "ENABLED"
    }

    assert sweeps == {"due": "rate(1 minute)", "inventory": "rate(10 minutes)"}


def test_the_rules_let_through_every_kind_of_event_that_is_understood() -> None:
    patterns = [rule["EventPattern"] for rule in resources("AWS::Events::Rule").values()]
    kinds = {(source, kind) for item in patterns for source in item["source"] for kind in item["detail-type"]}

    assert kinds == {
        ("aws.ec2", "EC2 Instance State-change Notification"),
        ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
        ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
        ("aws.s3", "Object Created"),
        ("aws.health", "AWS Health Event"),
    }


def test_results_are_announced_and_logs_are_not() -> None:
    detail = resource("ResultEvents")["EventPattern"]["detail"]

    assert resource("Bucket")["NotificationConfiguration"]["EventBridgeConfiguration"]["EventBridgeEnabled"] is True
    assert detail == {"bucket": {"name": [{"Ref": "Bucket"}]}, "object": {"key": [{"suffix": "/result.json"}]}}


# ---- Records -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Table", "Bucket"])
def test_records_and_results_outlive_the_stack(name: str) -> None:
    item = template()["Resources"][name]

    assert (item["DeletionPolicy"], item["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_table_can_be_restored_to_any_moment() -> None:
    assert resource("Table")["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_old_records_expire_by_the_attribute_that_is_written() -> None:
    ended = make_run(status=RunStatus.MISSED, ended_at=NOW)
    table: Any = None

    item = DynamoRuns(table, Limits())._item(ended)

    setting = resource("Table")["TimeToLiveSpecification"]

    assert setting["Enabled"] is True
    assert setting["AttributeName"] in item


def test_the_bucket_is_private_and_encrypted() -> None:
    bucket = resource("Bucket")

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def test_the_bucket_answers_over_tls_only() -> None:
    (statement,) = resource("BucketPolicy")["PolicyDocument"]["Statement"]

    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Resource"] == [arn("Bucket"), {"Fn::Sub": "${Bucket.Arn}/*"}]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_applied_files_never_expire() -> None:
    rules = resource("Bucket")["LifecycleConfiguration"]["Rules"]
    expiring = {rule.get("Prefix", "") for rule in rules if "ExpirationInDays" in rule}

    assert expiring == {"launches/", "workers/"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_log_group_that_forgets(name: str) -> None:
    group = {"Fn::Sub": f"/aws/lambda/{FUNCTIONS[name]['FunctionName']['Fn::Sub']}"}
    retained = {
        json.dumps(item["LogGroupName"]): item.get("RetentionInDays")
        for item in resources("AWS::Logs::LogGroup").values()
    }

    assert retained[json.dumps(group)] == {"Ref": "LogRetentionDays"}


# ---- Workers -----------------------------------------------------------------------------------------------


def test_a_worker_that_shuts_down_is_terminated() -> None:
    assert resource("WorkerTemplate")["LaunchTemplateData"]["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_a_worker_answers_only_to_tokens_and_knows_its_tags() -> None:
    options = resource("WorkerTemplate")["LaunchTemplateData"]["MetadataOptions"]

    assert options["HttpTokens"] == "required"
    assert options["InstanceMetadataTags"] == "enabled"
    assert options["HttpPutResponseHopLimit"] == 1


def test_the_launch_template_holds_nothing_that_a_run_decides() -> None:
    data = set(resource("WorkerTemplate")["LaunchTemplateData"])

    assert not data & {"ImageId", "InstanceType", "TagSpecifications", "InstanceMarketOptions", "BlockDeviceMappings"}


def test_nothing_comes_in() -> None:
    for group in resources("AWS::EC2::SecurityGroup").values():
        assert "SecurityGroupIngress" not in group
    assert not resources("AWS::EC2::SecurityGroupIngress")


# ---- Tidiness ----------------------------------------------------------------------------------------------


def test_every_condition_is_used() -> None:
    used = conditions_used({"Resources": template()["Resources"], "Outputs": template()["Outputs"]})

    assert used == set(template()["Conditions"])
