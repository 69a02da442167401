from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.adapters.envelopes import EnvelopeError, parse_facts, parse_tick
from nightcrew.domain.run import Trigger, run_id_of
from nightcrew.domain.sweep import WorkerState
from nightcrew.usecases.launch import Tick
from nightcrew.usecases.watch import Advice, CancelAsked, Fact, InterruptionNotice, ResultAnnounced, StateChanged
from tests.adapters.conftest import steady
from tests.functions.handlers import ROOT, read_event

FOREIGN = "i-0f0f0f0f0f0f0f0f0"
SCHEDULED = datetime(2026, 1, 16, 2, 30, tzinfo=UTC)
RETIREMENT = "AWS Health: AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED starting Fri, 30 Jan 2026 05:00:00 GMT"
NOTICE = InterruptionNotice(FOREIGN, "terminate")
CANCEL = CancelAsked("nightly-report-20200101T023000Z", "ada")
FACTS: dict[str, list[tuple[Fact, ...]]] = {
    "cancel-request.json": [(CANCEL,)],
    "health-two-instances.json": [(Advice(FOREIGN, RETIREMENT), Advice("i-0f0f0f0f0f0f0f0f1", RETIREMENT))],
    "instance-running.json": [(StateChanged(FOREIGN, WorkerState.RUNNING),)],
    "instance-terminated.json": [(StateChanged(FOREIGN, WorkerState.TERMINATED),)],
    "mixed-batch.json": [(StateChanged(FOREIGN, WorkerState.SHUTTING_DOWN),), (NOTICE,), (CANCEL,)],
    "rebalance-recommendation.json": [(Advice(FOREIGN, "EC2 recommends to rebalance: higher risk of interruption"),)],
    "result-created.json": [(ResultAnnounced(FOREIGN),)],
    "spot-interruption.json": [(NOTICE,)],
    "unknown-kind.json": [()],
}


def bodies(name: str) -> list[Any]:
    found = []
    for record in read_event(f"lifecycle/{name}")["Records"]:
        try:
            found.append(json.loads(record["body"]))
        except ValueError:
            continue
    return found


def envelope(name: str, **detail: Any) -> dict[str, Any]:
    body: dict[str, Any] = bodies(name)[0]
    return {**body, "detail": {**body["detail"], **detail}}


# ---- What is understood ------------------------------------------------------------------------------------


def test_every_event_file_of_the_lifecycle_function_is_in_the_table() -> None:
    assert {path.name for path in (ROOT / "events" / "lifecycle").iterdir()} == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_an_envelope_is_understood(name: str) -> None:
    assert [parse_facts(body) for body in bodies(name)] == FACTS[name]


@pytest.mark.parametrize("state", WorkerState)
def test_every_state_of_an_instance_is_understood(state: WorkerState) -> None:
    assert parse_facts(envelope("instance-running.json", state=state.value)) == (StateChanged(FOREIGN, state),)


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_every_kind_of_interruption_is_understood(action: str) -> None:
    facts = parse_facts(envelope("spot-interruption.json", **{"instance-action": action}))

    assert facts == (InterruptionNotice(FOREIGN, action),)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(envelope("instance-running.json", state="dreaming"), id="a state of the future"),
        pytest.param(envelope("instance-running.json", state=["running"]), id="a state that is a list"),
        pytest.param(envelope("instance-running.json", **{"instance-id": f"{FOREIGN}; rm"}), id="no instance id"),
        pytest.param(envelope("instance-running.json", **{"instance-id": None}), id="an instance id that is null"),
        pytest.param({**envelope("instance-running.json"), "source": "my.app"}, id="another source"),
        pytest.param({**envelope("instance-running.json"), "detail": None}, id="no detail"),
        pytest.param({**envelope("instance-running.json"), "detail-type": ["EC2"]}, id="a kind that is a list"),
        pytest.param(envelope("health-two-instances.json", service="RDS"), id="health of another service"),
        pytest.param(envelope("health-two-instances.json", affectedEntities=None), id="health of nobody"),
        pytest.param(envelope("health-two-instances.json", affectedEntities=[FOREIGN]), id="health of bare ids"),
        pytest.param(envelope("cancel-request.json", run_id=""), id="a cancellation of nothing"),
        pytest.param(envelope("cancel-request.json", run_id=7), id="a cancellation of a number"),
        pytest.param(envelope("result-created.json", object=None), id="no object"),
        pytest.param(envelope("result-created.json", object=["key"]), id="an object that is a list"),
        *(
            pytest.param(envelope("result-created.json", object={"key": key}), id=f"the key {key}")
            for key in (
                f"workers/AROAROLE:{FOREIGN}/{'0' * 32}/log/00001.txt",
                f"workers/AROAROLE:{FOREIGN}/{'0' * 32}/outputs/result.json",
                f"workers/AROAROLE:{FOREIGN}/{'0' * 31}/result.json",
                f"workers/AROAROLE:{FOREIGN}/{'0' * 32}/result.json/",
                f"workers/AROAROLE/{FOREIGN}/{'0' * 32}/result.json",
                f"other/workers/AROAROLE:{FOREIGN}/{'0' * 32}/result.json",
            )
        ),
    ],
)
def test_what_is_not_ours_to_know_says_nothing(body: dict[str, Any]) -> None:
    assert parse_facts(body) == ()


@pytest.mark.parametrize("body", [None, 5, "text", [], [{"source": "aws.ec2"}]])
def test_what_is_no_envelope_is_an_error(body: Any) -> None:
    with pytest.raises(EnvelopeError, match="instead of an object"):
        parse_facts(body)


# ---- Ticks -------------------------------------------------------------------------------------------------


def test_a_tick_of_the_schedule_is_understood() -> None:
    assert parse_tick(read_event("launcher/tick.json")) == Tick("nightly-report", "5d41402abc4b", SCHEDULED)


def test_a_run_by_hand_is_understood() -> None:
    at = datetime(2026, 1, 16, 9, 12, 44, tzinfo=UTC)

    assert parse_tick(read_event("launcher/manual.json")) == Tick("nightly-report", "5d41402abc4b", at, Trigger.MANUAL)


@pytest.mark.parametrize(
    "time", ["2026-01-16T02:30:00Z", "2026-01-16T03:30:00+01:00", "2026-01-15T21:30:00-05:00", "2026-01-16T02:30Z"]
)
def test_one_tick_has_one_run_however_its_time_is_spelled(time: str) -> None:
    tick = parse_tick({**read_event("launcher/tick.json"), "scheduled_time": time})

    assert run_id_of(tick.job, tick.scheduled_at, tick.trigger) == "nightly-report-20260116T023000Z"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"scheduled_time": "<aws.scheduler.scheduled-time>"}, id="a time that was not filled in"),
        pytest.param({"scheduled_time": "2026-01-16T02:30:00"}, id="a time of no zone"),
        pytest.param({"scheduled_time": 1768530600}, id="a time that is a number"),
        pytest.param({"scheduled_time": "0001-01-01T00:00:00+05:00"}, id="a time before all calendars"),
        pytest.param({"job": None}, id="no job"),
        pytest.param({"job": ["nightly-report"]}, id="a job that is a list"),
        pytest.param({"revision": 5}, id="a revision that is a number"),
        pytest.param({"trigger": "moon"}, id="an unknown trigger"),
        pytest.param({"trigger": []}, id="a trigger that is a list"),
    ],
)
def test_a_garbled_tick_is_an_error_that_says_what_is_expected(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError, match=r"not a tick: .*scheduled_time"):
        parse_tick({**read_event("launcher/tick.json"), **changes})


# ---- Anything at all ---------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
KINDS = sorted({(body["source"], body["detail-type"]) for name in FACTS for body in bodies(name)})


def some_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


details = some_of(
    **{
        "instance-id": st.just(FOREIGN) | anything,
        "state": st.sampled_from([*WorkerState]) | anything,
        "instance-action": anything,
        "object": anything | some_of(key=anything),
        "service": st.just("EC2") | anything,
        "affectedEntities": anything | st.lists(anything | some_of(entityValue=st.just(FOREIGN) | anything)),
        "eventTypeCode": anything,
        "startTime": anything,
        "run_id": anything,
        "by": anything,
    }
)
envelopes = st.builds(
    lambda kind, detail: {"source": kind[0], "detail-type": kind[1], "detail": detail},
    st.sampled_from(KINDS),
    details | anything,
)


@steady
@given(envelopes)
def test_an_envelope_with_anything_in_it_gives_facts_and_never_an_error(body: dict[str, Any]) -> None:
    for fact in parse_facts(body):
        assert isinstance(fact.run_id if isinstance(fact, CancelAsked) else fact.instance_id, str)


@steady
@given(anything)
def test_anything_at_all_is_an_envelope_or_a_documented_error(value: Any) -> None:
    try:
        facts = parse_facts(value)
    except EnvelopeError:
        assert not isinstance(value, dict)
    else:
        assert facts == ()


@steady
@given(
    anything
    | some_of(
        job=st.just("nightly-report") | anything,
        revision=st.just("5d41402abc4b") | anything,
        scheduled_time=st.datetimes(timezones=st.timezones()).map(datetime.isoformat) | anything,
        trigger=st.sampled_from(Trigger) | anything,
    )
)
def test_anything_at_all_is_a_tick_in_utc_or_a_documented_error(value: Any) -> None:
    try:
        tick = parse_tick(value)
    except EnvelopeError:
        return
    assert isinstance(tick.job, str)
    assert isinstance(tick.revision, str)
    assert tick.scheduled_at.tzinfo is UTC
