"""The small parts of the local host, each on its own."""

import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nightcrew_cli.local import policies
from nightcrew_cli.local.events import EventRelay
from nightcrew_cli.local.faults import Faults
from nightcrew_cli.local.function_launcher import shared
from nightcrew_cli.local.functions import LayerFolders
from nightcrew_cli.local.schedules import next_time
from nightcrew_cli.local.settings import local_home
from nightcrew_cli.local.tokens import TokenLedger, TokenMismatchError
from nightcrew_cli.local.worker_process import decode_user_data

VALUES = {"aws:userid": "AROA1:i-1", "odd": "a*b"}


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        pytest.param("b/workers/${aws:userid}/*", "b/workers/AROA1:i-1/x", True, id="its own"),
        pytest.param("b/workers/${aws:userid}/*", "b/workers/AROA1:i-2/x", False, id="another's"),
        pytest.param("b/workers/${aws:USERID}/*", "b/workers/AROA1:i-1/x", True, id="keys ignore case"),
        pytest.param("b/${aws:username}/*", "b//x", False, id="no value matches nothing"),
        pytest.param("b/${aws:username, 'all'}/*", "b/all/x", True, id="a default"),
        pytest.param("b/${odd}/x", "b/aXb/x", False, id="a value's wildcards are plain characters"),
        pytest.param("b/${*}/x", "b/y/x", False, id="an escaped wildcard is a plain character"),
        pytest.param("b/?/*", "b/y/x/z", True, id="the pattern's own wildcards count"),
    ],
)
def test_policy_variables_in_resources(pattern: str, resource: str, *, matches: bool) -> None:
    assert policies.resource_matches(resource, pattern, VALUES) is matches


def test_policy_variables_in_conditions() -> None:
    block = {"StringEquals": {"aws:RequestTag/owner": ["${aws:userid}", "plain"]}}

    assert policies.conditions_filled(block, VALUES) == {
        "StringEquals": {"aws:RequestTag/owner": ["AROA1:i-1", "plain"]}
    }
    with pytest.raises(policies.NoValueError):
        policies.conditions_filled({"StringEquals": {"k": "${aws:username}"}}, VALUES)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        pytest.param("cron(30 2 * * ? *)", "UTC", "2026-11-22T03:00", "2026-11-23T02:30", id="in UTC"),
        pytest.param("cron(30 2 * * ? *)", "Europe/Berlin", "2026-11-22T03:00", "2026-11-23T01:30", id="winter"),
        pytest.param("cron(30 2 * * ? *)", "Europe/Berlin", "2026-07-01T03:00", "2026-07-02T00:30", id="summer"),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2027-03-27T12:00", "2027-03-29T00:30", id="left out in spring"
        ),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30", id="first of two in autumn"
        ),
        pytest.param(
            "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30", id="autumn fires once"
        ),
        pytest.param("rate(5 minutes)", "UTC", "2026-11-22T03:00", "2026-11-22T03:05", id="a rate"),
        pytest.param("at(2026-11-22T04:00:00)", "Europe/Berlin", "2026-11-22T02:00", "2026-11-22T03:00", id="once"),
        pytest.param("at(2026-11-22T04:00:00)", "UTC", "2026-11-22T04:00", None, id="once is over"),
    ],
)
def test_the_next_time_of_a_schedule(expression: str, zone: str, after: str, expected: str | None) -> None:
    schedule = {"ScheduleExpression": expression, "ScheduleExpressionTimezone": zone}

    found = next_time(schedule, datetime.fromisoformat(after).replace(tzinfo=UTC))

    assert found == (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None)


def test_a_token_remembers_its_answer_and_its_parameters() -> None:
    ledger = TokenLedger()
    key = ("account", "region", "CreateFleet", "t")
    assert ledger.find(key, {"InstanceType": ["a"]}) is None
    ledger.keep(key, {"InstanceType": ["a"], "ClientToken": ["t"]}, answer=b"first", instance_ids=["i-1"])

    entry = ledger.find(key, {"InstanceType": ["a"], "SubnetId": ["other zone"], "ClientToken": ["t"]})

    assert entry is not None
    assert entry.answer == b"first"
    with pytest.raises(TokenMismatchError):
        ledger.find(key, {"InstanceType": ["b"]})


def test_a_pool_runs_dry_after_what_it_has() -> None:
    faults = Faults()
    faults.add({"pools": [{"instance_type": "m7g.large", "available": 1, "code": "UnfulfillableCapacity"}]})

    first = faults.dry_pool("m7g.large", "us-east-1a", "spot")
    second = faults.dry_pool("m7g.large", "us-east-1b", "spot")

    assert first is None
    assert second is not None
    assert second.code == "UnfulfillableCapacity"
    assert faults.dry_pool("c7g.large", "us-east-1a", "spot") is None


def test_a_fault_ends_after_its_times() -> None:
    delivered = []
    faults = Faults()
    faults.add({"events": [{"action": "drop", "source": "aws.s3", "contains": "result.json", "times": 1}]})
    relay = EventRelay(faults, delivered.append)
    event = {"Source": "aws.s3", "DetailType": "Object Created", "Detail": json.dumps({"key": "a/result.json"})}

    relay.relay(event)
    relay.relay(event)
    relay.relay({**event, "Source": "ours"})

    assert len(delivered) == 2
    assert [entry["fate"] for entry in relay.recent()] == ["drop", "delivered", "delivered"]


def test_user_data_is_read_in_base64_or_plain() -> None:
    assert decode_user_data("IyEvYmluL2Jhc2gK") == b"#!/bin/bash\n"
    assert decode_user_data("#!/bin/bash\n") == b"#!/bin/bash\n"


def test_equal_layers_are_unpacked_once(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("python/package.py", "x = 1")
    folders = LayerFolders(tmp_path / "layers")
    unpacked = []
    for name in ("first", "second"):
        with zipfile.ZipFile(io.BytesIO(folders.pointer_to(archive.getvalue()))) as pointer:
            pointer.extractall(tmp_path / name)
        unpacked.append(Path(shared(str(tmp_path / name))))

    first, second = unpacked

    assert first == second
    assert (first / "python" / "package.py").is_file()
    assert shared(str(tmp_path)) == str(tmp_path)


def test_the_folder_of_the_local_stack_can_be_chosen(tmp_path: Path) -> None:
    assert local_home({"NIGHTCREW_LOCAL_HOME": str(tmp_path)}) == tmp_path
    assert local_home({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "nightcrew"
