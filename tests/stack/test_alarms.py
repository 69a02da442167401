"""The safety net is watched: every alarm hears of something that is really there."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nightcrew.usecases.reap import Tally
from tests.functions import handlers
from tests.functions.handlers import Context, Metric, emitted, handler_module
from tests.stack.template import parameter, references, resource, resources, template

NAMESPACE = {"Fn::Sub": "Nightcrew/${AWS::StackName}"}
ALARMS = resources("AWS::CloudWatch::Alarm")
OURS = {name: alarm for name, alarm in ALARMS.items() if alarm["Namespace"] == NAMESPACE}
OF_AWS = {name: alarm for name, alarm in ALARMS.items() if name not in OURS}
# Where nothing being reported is the failure itself.
SILENCE_IS_FAILURE = {"DueSweepSilent", "InventorySweepSilent", "ReaperFailing"}
DIMENSIONS = {
    "AWS/Lambda": ("FunctionName", "AWS::Serverless::Function"),
    "AWS/SQS": ("QueueName", "AWS::SQS::Queue"),
}
EVERYTHING = Tally(looked=1, missed=1, workers=1, leaks=1, ended=1, denied=1, spared=1, left_overs=1)


class Sweep:
    def sweep(self) -> Tally:
        return EVERYTHING


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Metric]:
    """Every metric that sweeps with something to tell of everything emit."""
    reaper: Any = handler_module("reaper")
    monkeypatch.setattr(reaper, "sweeps", lambda: {"due": Sweep(), "inventory": Sweep()})
    found: dict[str, Metric] = {}
    for name in ("due", "inventory"):
        reaper.lambda_handler({"sweep": name}, Context())
        found |= emitted(capsys.readouterr().out)
    return found


def dimensions(alarm: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(item["Name"], item["Value"]) for item in alarm["Dimensions"]]


@pytest.mark.parametrize("name", OURS)
def test_an_alarm_on_our_own_metric_hears_what_the_code_emits(name: str, metrics: dict[str, Metric]) -> None:
    alarm = OURS[name]

    metric = metrics[alarm["MetricName"]]

    assert metric.namespace == handlers.NAMESPACE
    assert {dimension for dimension, _ in dimensions(alarm)} == {dimension for dimension, _ in metric.dimensions}
    fixed = [(key, value) for key, value in dimensions(alarm) if isinstance(value, str)]
    assert set(fixed) <= set(metric.dimensions)


@pytest.mark.parametrize("name", OF_AWS)
def test_an_alarm_on_a_metric_of_aws_names_a_resource_of_this_stack(name: str) -> None:
    ((dimension, value),) = dimensions(OF_AWS[name])
    expected, kind = DIMENSIONS[OF_AWS[name]["Namespace"]]

    assert dimension == expected
    assert references(value) <= set(resources(kind))
    # Ref of a queue is its URL, which is no dimension.
    assert kind != "AWS::SQS::Queue" or value["Fn::GetAtt"][1] == "QueueName"


def test_the_metrics_of_a_stack_have_a_namespace_of_their_own() -> None:
    """Else the sweeps of one stack would hide the silence of another in the same account."""
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == NAMESPACE


@pytest.mark.parametrize("name", ALARMS)
def test_silence_alarms_where_silence_is_the_failure_and_nowhere_else(name: str) -> None:
    expected = "breaching" if name in SILENCE_IS_FAILURE else "notBreaching"

    assert ALARMS[name]["TreatMissingData"] == expected


def test_both_sweeps_have_an_alarm_for_their_silence() -> None:
    watched = {alarm["MetricName"] for name, alarm in ALARMS.items() if name in SILENCE_IS_FAILURE}

    assert watched == {"DueSweepCompleted", "InventorySweepCompleted", "Errors"}


@pytest.mark.parametrize(
    ("alarm", "schedule"), [("DueSweepSilent", "DueSweep"), ("InventorySweepSilent", "InventorySweep")]
)
def test_a_silent_sweep_is_noticed_after_three_sweeps_and_not_after_one(alarm: str, schedule: str) -> None:
    expression = resource(schedule)["ScheduleExpression"]
    (minutes,) = re.fullmatch(r"rate\((\d+) minutes?\)", expression).groups()  # type: ignore[union-attr]
    window = ALARMS[alarm]["Period"] * ALARMS[alarm]["EvaluationPeriods"]

    assert 3 * 60 * int(minutes) <= window <= 5 * 60 * int(minutes)
    assert (ALARMS[alarm]["ComparisonOperator"], ALARMS[alarm]["Threshold"]) == ("LessThanThreshold", 1)


@pytest.mark.parametrize("name", ALARMS)
def test_every_alarm_tells_people_and_tells_them_when_it_is_over(name: str) -> None:
    assert ALARMS[name]["AlarmActions"] == [{"Ref": "Topic"}]
    assert ALARMS[name]["OKActions"] == [{"Ref": "Topic"}]
    assert ALARMS[name]["AlarmDescription"]
    assert ALARMS[name].get("ActionsEnabled", True) is True


def test_every_dead_letter_queue_has_an_alarm() -> None:
    dead_ends = set(resources("AWS::SQS::Queue")) - {"LifecycleQueue"}
    watched = {
        queue
        for alarm in ALARMS.values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible" and alarm["Threshold"] == 1
        for queue in references(alarm["Dimensions"])
    }

    assert watched == dead_ends


def test_the_dashboard_shows_every_alarm_and_metrics_that_exist(metrics: dict[str, Metric]) -> None:
    body = resource("Dashboard")["DashboardBody"]
    shown = set(re.findall(rf'\["{re.escape(NAMESPACE["Fn::Sub"])}", "(\w+)"', body["Fn::Sub"]))

    assert references(body) - {"AWS::Region", "AWS::StackName"} == set(ALARMS)
    assert shown
    assert shown <= set(metrics)


def test_cloudwatch_may_publish_to_the_topic() -> None:
    (statement,) = resource("TopicPolicy")["PolicyDocument"]["Statement"]

    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Action"] == "sns:Publish"


def test_the_topics_key_is_not_one_that_keeps_alarms_out() -> None:
    """The policy of alias/aws/sns does not let CloudWatch in, and nobody can change it."""
    topic = template()["Resources"]["Topic"].get("Properties", {})

    assert topic.get("KmsMasterKeyId") != "alias/aws/sns"


def test_notices_go_to_the_address_that_was_given() -> None:
    assert parameter("NoticeEmail") == ""
    assert resource("EmailSubscription")["Endpoint"] == {"Ref": "NoticeEmail"}
