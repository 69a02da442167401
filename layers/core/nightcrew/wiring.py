"""The only module that names concrete adapters: it makes the clients and puts the use cases together."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3  # noqa: TID251 the one place that makes clients
from botocore.config import Config

from nightcrew.adapters.clock import SecretNonces, SystemClock
from nightcrew.adapters.exchange import S3Exchange
from nightcrew.adapters.fleet import Ec2Fleet
from nightcrew.adapters.job_store import DynamoJobs
from nightcrew.adapters.launch_inputs import AwsLaunchInputs
from nightcrew.adapters.left_overs import Ec2LeftOvers
from nightcrew.adapters.messages import LambdaLaunchRequests, SnsNotifier
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.table import Table
from nightcrew.adapters.workers import Ec2Workers
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.launch import Launch
from nightcrew.usecases.look import Look
from nightcrew.usecases.reap import DueSweep, InventorySweep
from nightcrew.usecases.settings import Settings
from nightcrew.usecases.watch import Watch

_READS = Config(connect_timeout=3, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 4})
# botocore would repeat InsufficientInstanceCapacity, which comes as HTTP 500, for ten seconds on the same
# sold-out pool. A launch is repeated by the run, with the same token, or not at all.
_LAUNCHES = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1})


@cache
def _client(service: str) -> Any:
    return boto3.client(service, config=_READS)  # type: ignore[call-overload]


def launch(settings: Settings) -> Launch:
    clock = SystemClock()
    runs = DynamoRuns(_table(settings), settings.limits)
    return Launch(
        stack=settings.stack,
        template=settings.template,
        subnets=settings.subnets,
        limits=settings.limits,
        jobs=DynamoJobs(_table(settings)),
        runs=runs,
        inputs=AwsLaunchInputs(_client("ec2"), _client("ssm")),
        fleet=Ec2Fleet(boto3.client("ec2", config=_LAUNCHES)),
        exchange=_exchange(settings),
        effects=Effects(runs=runs, notifier=_notifier(settings), clock=clock, limits=settings.limits),
        nonces=SecretNonces(),
        clock=clock,
    )


def watch(settings: Settings) -> Watch:
    look = _look(settings)
    return Watch(runs=look.runs, workers=look.workers, look=look, effects=look.effects)


def due_sweep(settings: Settings) -> DueSweep:
    look = _look(settings)
    jobs = DynamoJobs(_table(settings))
    return DueSweep(
        stack=settings.stack,
        runs=look.runs,
        due_list=jobs,
        watch=jobs,
        look=look,
        effects=look.effects,
        clock=look.clock,
    )


def inventory_sweep(settings: Settings) -> InventorySweep:
    look = _look(settings)
    return InventorySweep(
        runs=look.runs,
        workers=look.workers,
        left_overs=Ec2LeftOvers(_client("ec2"), settings.stack),
        look=look,
        clock=look.clock,
        limits=settings.limits,
    )


def _look(settings: Settings) -> Look:
    clock = SystemClock()
    runs = DynamoRuns(_table(settings), settings.limits)
    workers = Ec2Workers(_client("ec2"), settings.stack)
    effects = Effects(
        runs=runs,
        notifier=_notifier(settings),
        clock=clock,
        limits=settings.limits,
        workers=workers,
        launches=LambdaLaunchRequests(_client("lambda"), settings.launcher),
    )
    return Look(
        runs=runs,
        workers=workers,
        exchange=_exchange(settings),
        effects=effects,
        clock=clock,
        limits=settings.limits,
    )


def _table(settings: Settings) -> Table:
    return Table(_client("dynamodb"), settings.table)


def _exchange(settings: Settings) -> S3Exchange:
    return S3Exchange(_client("s3"), settings.bucket, settings.worker_role_id)


def _notifier(settings: Settings) -> SnsNotifier:
    return SnsNotifier(_client("sns"), settings.topic)
