"""The compiled job: its JSON is the contract between the CLI and the functions."""

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.domain.job import Backoff, CapacityType, Compute, Job, JobFormatError, OnFinish, canonical_json

NIGHTLY: dict[str, Any] = {
    "version": 1,
    "name": "nightly-report",
    "description": "Baut den Würfel",
    "owner": "data",
    "schedule": {
        "expressions": ["cron(30 2 * * ? *)"],
        "timezone": "Europe/Berlin",
        "enabled": True,
        "start_within": 1800,
    },
    "command": "python3 report.py",
    "env": {"MODE": "full"},
    "files": {"key": "files/abc.tar.gz", "sha256": "abc"},
    "compute": {
        "image": "ssm:/aws/service/image",
        "instance_types": ["m7g.large"],
        "capacity_type": "spot-then-on-demand",
        "disk_gib": 30,
        "subnets": ["subnet-1"],
    },
    "timeout": 7200,
    "deadline": 18000,
    "retry": {"attempts": 1, "interruptions": 3, "backoff": {"initial": 60, "factor": 2, "max": 900}},
    "on_finish": "terminate",
    "tags": {"team": "data"},
}
MINIMAL = {**NIGHTLY, "schedule": None, "files": None, "compute": {**NIGHTLY["compute"], "disk_gib": None}}


@pytest.mark.parametrize("data", [NIGHTLY, MINIMAL], ids=["full", "with nulls"])
def test_json_survives_a_round_trip(data: dict[str, Any]) -> None:
    job = Job.from_json(data)

    assert job.to_json() == data
    assert Job.from_json(json.loads(canonical_json(job))) == job


def test_values_have_their_types() -> None:
    job = Job.from_json(NIGHTLY)

    assert job.timeout == timedelta(hours=2)
    assert job.schedule is not None
    assert job.schedule.start_within == timedelta(minutes=30)
    assert job.compute.capacity_type is CapacityType.SPOT_THEN_ON_DEMAND
    assert job.on_finish is OnFinish.TERMINATE
    assert job.compute.instance_types == ("m7g.large",)
    assert isinstance(hash(job), int)


def test_canonical_json_has_one_spelling() -> None:
    shuffled = dict(reversed(NIGHTLY.items()))

    text = canonical_json(Job.from_json(shuffled))

    assert text == json.dumps(NIGHTLY, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_the_revision_of_a_known_job_stays() -> None:
    # A change of this number means that every job of every user shows as changed: raise VERSION knowingly.
    assert Job.from_json(NIGHTLY).revision == "dbbe4a5d43a7"


def test_the_revision_follows_every_field() -> None:
    job = Job.from_json(NIGHTLY)

    changed = [
        replace(job, command="true"),
        replace(job, timeout=timedelta(seconds=1)),
        replace(job, env={}),
        replace(job, tags={}),
        replace(job, files=None),
        replace(job, on_finish=OnFinish.STOP),
        replace(job, compute=replace(job.compute, disk_gib=None)),
    ]

    assert len({job.revision, *(other.revision for other in changed)}) == 8


def test_keys_of_a_newer_minor_version_are_left_out() -> None:
    newer = copy.deepcopy(NIGHTLY)
    newer["priority"] = 3
    newer["compute"]["gpu"] = True
    newer["retry"]["backoff"]["jitter"] = 1

    assert Job.from_json(newer) == Job.from_json(NIGHTLY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "'nightly-report' has version 2, this stack reads up to 1: upgrade the stack"),
        ({"version": None}, "no valid version"),
        ({"version": "1"}, "no valid version"),
        ({"version": True}, "no valid version"),
        ({"version": 0}, "no valid version"),
        ({"timeout": "soon"}, "is damaged"),
        ({"compute": None}, "is damaged"),
        ({"on_finish": "explode"}, "is damaged: 'explode'"),
        ({"retry": {"attempts": 1}}, "lacks the key 'interruptions'"),
    ],
)
def test_json_that_cannot_be_read_is_refused_with_the_job_and_the_reason(change: dict[str, Any], words: str) -> None:
    with pytest.raises(JobFormatError) as error:
        Job.from_json({**NIGHTLY, **change})

    assert words in str(error.value)


def test_a_duration_of_less_than_a_second_cannot_be_written() -> None:
    job = replace(Job.from_json(NIGHTLY), timeout=timedelta(milliseconds=1500))

    with pytest.raises(JobFormatError, match="whole number of seconds"):
        job.to_json()


def test_defaults_are_enough_for_a_small_job() -> None:
    job = Job(
        name="small",
        command="true",
        compute=Compute(image="ami-1", instance_types=("m7g.large",)),
        timeout=timedelta(hours=1),
        deadline=timedelta(hours=2),
    )

    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize(("retry", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 15), (6, 15), (10**9, 15)])
def test_backoff_grows_up_to_its_max(retry: int, minutes: int) -> None:
    backoff = Backoff(initial=timedelta(minutes=1), factor=2, max=timedelta(minutes=15))

    assert backoff.delay(retry) == timedelta(minutes=minutes)


@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(0, 10**6), st.integers(1, 50))
def test_backoff_never_shrinks_and_never_passes_its_max(initial: int, factor: int, longest: int, retry: int) -> None:
    backoff = Backoff(initial=timedelta(seconds=initial), factor=factor, max=timedelta(seconds=longest))

    delay = backoff.delay(retry)

    assert delay == timedelta(seconds=min(initial * factor ** (retry - 1), longest))
    assert delay <= backoff.delay(retry + 1) <= backoff.max
