"""What the template allows: each role little, and over machines and disks only what carries our tag."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.template import listed, resources, statements, template

OUR_TAG = {"aws:ResourceTag/nightcrew:stack": {"Ref": "AWS::StackName"}}
REQUESTED_TAG = {"aws:RequestTag/nightcrew:stack": {"Ref": "AWS::StackName"}}
ENDING = ("ec2:Terminate", "ec2:Stop", "ec2:Delete", "ec2:Cancel", "ec2:Release", "ec2:Detach", "ec2:Reboot")
ROLES = {
    **resources("AWS::Serverless::Function"),
    **{name: {"Policies": item["Policies"]} for name, item in resources("AWS::IAM::Role").items()},
}
ALLOWED = [
    pytest.param(role, statement, id=f"{role}-{statement.get('Sid', statement['Action'])}")
    for role, properties in ROLES.items()
    for statement in statements(properties["Policies"])
    if statement["Effect"] == "Allow"
]


def equals(statement: dict[str, Any]) -> dict[str, Any]:
    return dict(statement.get("Condition", {}).get("StringEquals", {}))


def actions_of(role: str) -> set[str]:
    return {action for item in statements(ROLES[role]["Policies"]) for action in listed(item["Action"])}


def statements_with(role: str, action: str) -> list[dict[str, Any]]:
    return [item for item in statements(ROLES[role]["Policies"]) if action in listed(item["Action"])]


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_no_action_is_a_pattern(role: str, statement: dict[str, Any]) -> None:
    assert "NotAction" not in statement
    assert not [action for action in listed(statement["Action"]) if "*" in action]


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_only_looking_is_allowed_everywhere(role: str, statement: dict[str, Any]) -> None:
    if "*" in listed(statement["Resource"]):
        assert all(action.split(":")[1].startswith("Describe") for action in listed(statement["Action"]))


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_only_what_carries_our_tag_may_be_ended(role: str, statement: dict[str, Any]) -> None:
    if any(action.startswith(ENDING) for action in listed(statement["Action"])):
        assert equals(statement) == OUR_TAG


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_tags_are_set_at_the_launch_and_never_later(role: str, statement: dict[str, Any]) -> None:
    if "ec2:CreateTags" in listed(statement["Action"]):
        assert listed(statement["Action"]) == ["ec2:CreateTags"]
        assert equals(statement) == {"ec2:CreateAction": ["CreateFleet", "RunInstances"], **REQUESTED_TAG}


def test_what_is_launched_carries_our_tag() -> None:
    tagged = [item for item in statements_with("Launcher", "ec2:RunInstances") if equals(item) == REQUESTED_TAG]
    free = [item for item in statements_with("Launcher", "ec2:RunInstances") if item not in tagged]
    created = ("fleet/*", "instance/*", "volume/*", "network-interface/*")

    assert [arn["Fn::Sub"].rsplit(":", 1)[1] for item in tagged for arn in item["Resource"]] == list(created)
    assert not [arn for item in free for arn in listed(item["Resource"]) if arn["Fn::Sub"].endswith(created)]


def test_a_launch_is_made_from_our_launch_template_only() -> None:
    templates = [
        arn["Fn::Sub"].rsplit(":", 1)[1]
        for item in statements_with("Launcher", "ec2:RunInstances")
        for arn in listed(item["Resource"])
        if "launch-template/" in arn["Fn::Sub"]
    ]

    assert templates == ["launch-template/${WorkerTemplate}"]


def test_the_launcher_hands_on_the_worker_role_alone_and_to_ec2_alone() -> None:
    (statement,) = statements_with("Launcher", "iam:PassRole")

    assert statement["Resource"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    assert statement["Condition"] == {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}}


def test_only_the_launcher_launches_and_it_ends_nothing() -> None:
    launching = {"ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"}

    assert [role for role in ROLES if actions_of(role) & launching] == ["Launcher"]
    assert not [action for action in actions_of("Launcher") if action.startswith(ENDING)]


def test_nobody_deletes_records_or_objects() -> None:
    every = set().union(*(actions_of(role) for role in ROLES))

    assert not [action for action in every if action.startswith(("dynamodb:Delete", "s3:Delete"))]


def test_a_worker_writes_under_its_own_name_only() -> None:
    written = [
        (action, item["Resource"])
        for item in statements(ROLES["WorkerRole"]["Policies"])
        for action in listed(item["Action"])
        if not action.startswith("s3:Get")
    ]
    own = {"Fn::Sub": "${Bucket.Arn}/workers/${!aws:userid}/*"}

    assert written == [("s3:PutObject", own), ("s3:AbortMultipartUpload", own)]


def test_a_worker_reads_rosters_and_files_and_cannot_list() -> None:
    (statement,) = statements_with("WorkerRole", "s3:GetObject")

    assert statement["Resource"] == [{"Fn::Sub": "${Bucket.Arn}/launches/*"}, {"Fn::Sub": "${Bucket.Arn}/files/*"}]
    assert actions_of("WorkerRole") == {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}


def test_a_role_is_assumed_by_one_service_of_aws_only() -> None:
    principals = {
        name: [item["Principal"] for item in role["AssumeRolePolicyDocument"]["Statement"]]
        for name, role in resources("AWS::IAM::Role").items()
    }

    assert principals == {
        "SchedulerRole": [{"Service": "scheduler.amazonaws.com"}],
        "WorkerRole": [{"Service": "ec2.amazonaws.com"}],
    }


def test_whoever_may_be_anybody_is_only_ever_denied() -> None:
    open_to_all = [item for item in statements(template()["Resources"]) if item.get("Principal") in ("*", {"AWS": "*"})]

    assert open_to_all
    assert {item["Effect"] for item in open_to_all} == {"Deny"}


def test_events_come_from_our_rules_only() -> None:
    allowed = [item for item in statements(queue_policies()) if item["Effect"] == "Allow"]
    rules = [{"Fn::GetAtt": [name, "Arn"]} for name in resources("AWS::Events::Rule")]

    assert [(item["Principal"], item["Action"]) for item in allowed] == [
        ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    ]
    assert allowed[0]["Condition"] == {
        "ArnEquals": {"aws:SourceArn": rules},
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    }


def queue_policies() -> list[dict[str, Any]]:
    return list(resources("AWS::SQS::QueuePolicy").values())


def test_every_queue_answers_over_tls_only_and_has_one_policy() -> None:
    tls = {"Bool": {"aws:SecureTransport": "false"}}
    guarded = [
        queue["Ref"]
        for policy in queue_policies()
        for item in policy["PolicyDocument"]["Statement"]
        if (item["Effect"], item["Action"], item.get("Condition")) == ("Deny", "sqs:*", tls)
        for queue in policy["Queues"]
    ]

    assert sorted(guarded) == sorted(resources("AWS::SQS::Queue"))
    # A second policy of the same queue would replace the first.
    assert len(guarded) == sum(len(policy["Queues"]) for policy in queue_policies())
