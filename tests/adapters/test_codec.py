from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.adapters.codec import decode, encode
from nightcrew.domain.job import Backoff, CapacityType, Compute, Files, Job, JobSchedule, OnFinish, Retry
from nightcrew.domain.plan import Image, LaunchPlan, PlanStep, Pool, Refusal, Template
from nightcrew.domain.run import Attempt, Entry, Outcome, Run, RunStatus, Trigger, Worker
from tests.adapters.conftest import steady
from tests.builders import make_run

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
names = st.dictionaries(text, text, max_size=3)
whole = st.integers(0, 2**40)
seconds = st.integers(0, 10**8).map(lambda number: timedelta(seconds=number))
moments = st.integers(10**6, 7 * 10**15).map(
    lambda number: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=number)
)


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


def build(cls: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Every field is drawn, so that one which was forgotten here is an error and not a default."""
    assert set(fields) == set(cls.__dataclass_fields__), cls
    return st.builds(cls, **fields)


jobs = build(
    Job,
    name=text,
    command=text,
    compute=build(
        Compute,
        image=text,
        instance_types=several(text),
        capacity_type=st.sampled_from(CapacityType),
        disk_gib=st.none() | whole,
        subnets=several(text),
    ),
    timeout=seconds,
    deadline=seconds,
    description=text,
    owner=text,
    schedule=st.none()
    | build(JobSchedule, expressions=several(text), timezone=text, enabled=st.booleans(), start_within=seconds),
    env=names,
    files=st.none() | build(Files, key=text, sha256=text),
    retry=build(
        Retry,
        attempts=whole,
        interruptions=whole,
        backoff=build(Backoff, initial=seconds, factor=whole, max=seconds),
    ),
    on_finish=st.sampled_from(OnFinish),
    tags=names,
)
plans = build(
    LaunchPlan,
    template=build(Template, template_id=text, version=text),
    image=build(Image, image_id=text, root_device=text),
    disk_gib=st.none() | whole,
    steps=several(
        build(
            PlanStep,
            capacity_type=st.sampled_from(CapacityType),
            pools=several(build(Pool, instance_type=text, subnet_id=text, zone=text)),
        )
    ),
)
attempts = build(
    Attempt,
    number=whole,
    step=whole,
    launch=text,
    created_at=moments,
    worker=st.none()
    | build(
        Worker,
        instance_id=text,
        instance_type=text,
        capacity_type=text,
        zone=text,
        private_address=text,
        public_address=text,
    ),
    launched_at=st.none() | moments,
    running_at=st.none() | moments,
    interrupted_at=st.none() | moments,
    ended_at=st.none() | moments,
    outcome=st.none() | st.sampled_from(Outcome),
    exit_code=st.none() | st.integers(-255, 255),
    message=text,
    worker_ended=st.booleans(),
    refusals=several(build(Refusal, pool=text, code=text, message=text)),
    claimed_at=st.none() | moments,
    contested=st.booleans(),
    repeats=whole,
)
every_run = build(
    Run,
    run_id=text,
    stack=text,
    job=jobs,
    trigger=st.sampled_from(Trigger),
    scheduled_at=moments,
    created_at=moments,
    updated_at=moments,
    deadline=moments,
    nonce=text,
    status=st.sampled_from(RunStatus),
    plan=st.none() | plans,
    attempts=several(attempts),
    outcome=st.none() | st.sampled_from(Outcome),
    message=text,
    ended_at=st.none() | moments,
    retry_at=st.none() | moments,
    cancelled_by=text,
    notice=text,
    history=several(build(Entry, at=moments, text=text)),
    version=whole,
)


@steady
@given(every_run)
def test_any_run_comes_back_from_json_as_it_was(run: Run) -> None:
    assert decode(Run, json.loads(json.dumps(encode(run)))) == run


@steady
@given(every_run)
def test_equal_runs_have_one_spelling(run: Run) -> None:
    again = decode(Run, encode(run))

    assert encode(again) == encode(run)
    assert type(again.status) is RunStatus
    assert type(again.attempts) is tuple


@steady
@given(moments)
def test_moments_are_written_so_that_texts_sort_as_times_do(moment: datetime) -> None:
    """The due index compares texts."""
    second = moment.replace(microsecond=0)

    assert encode(second) < encode(second + timedelta(seconds=1))


def test_a_required_field_that_is_missing_is_named() -> None:
    record = encode(make_run())
    del record["attempts"][0]["launch"]

    with pytest.raises(KeyError, match=r"Attempt\.launch"):
        decode(Run, record)
