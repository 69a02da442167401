"""The connection to a deployed stack: which account, Region and endpoint, and the adapters over them.

The only module of the command line that makes AWS clients. Each is made when it is first needed: a client costs
time, and most commands need two or three of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nightcrew_cli.environment import is_set
from nightcrew_cli.failures import CommandError

if TYPE_CHECKING:
    from datetime import datetime

    import boto3  # noqa: TID251 - its type only

    from nightcrew.adapters.exchange import S3Exchange
    from nightcrew.adapters.job_store import DynamoJobs
    from nightcrew.adapters.launch_inputs import AwsLaunchInputs
    from nightcrew.adapters.operator_requests import LambdaLauncher, SqsCancellations
    from nightcrew.adapters.run_store import DynamoRuns
    from nightcrew.adapters.scheduler import SchedulerSchedules
    from nightcrew.adapters.stack import StackOutputs
    from nightcrew.adapters.table import Table
    from nightcrew.usecases.operate import Operate
    from nightcrew.usecases.ports import Clock
    from nightcrew.usecases.settings import Settings
    from nightcrew_cli.options import GlobalOptions

DEFAULT_STACK = "nightcrew"
# The launcher's answer may take as long as its own timeout; the SDK must not ask a second time meanwhile.
_READ_TIMEOUT = 180
_NO_SETTINGS = {"profile": None, "config_file": "/dev/null", "credentials_file": "/dev/null"}


class Connection:
    """One stack, and everything of it that a command may need."""

    def __init__(self, session: boto3.Session, *, stack: str, endpoint: str | None = None) -> None:
        self.stack = stack
        self.endpoint = endpoint
        self._session = session

    @property
    def is_local(self) -> bool:
        return self.endpoint is not None

    @property
    def region(self) -> str:
        return str(self._session.region_name or "")

    def client(self, service: str, *, retries: int = 3) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": retries},
            user_agent_extra="nightcrew",
            # The local stack is on this machine: whatever proxy the environment names, it is not behind it.
            proxies={} if self.is_local else None,
        )
        return self._session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]

    @cached_property
    def outputs(self) -> StackOutputs:
        from nightcrew.adapters.stack import read_outputs

        where = "the local stack" if self.is_local else self.region
        deploy = (
            "nightcrew local up"
            if self.is_local
            else "sam build && sam deploy; or, without an account, nightcrew local up"
        )
        return read_outputs(self.client("cloudformation"), self.stack, where=where, deploy=deploy)

    @cached_property
    def _table(self) -> Table:
        from nightcrew.adapters.table import Table

        return Table(self.client("dynamodb"), self.outputs.table)

    @cached_property
    def jobs(self) -> DynamoJobs:
        from nightcrew.adapters.job_store import DynamoJobs

        return DynamoJobs(self._table)

    @cached_property
    def runs(self) -> DynamoRuns:
        from nightcrew.adapters.run_store import DynamoRuns
        from nightcrew.domain.run import Limits

        return DynamoRuns(self._table, Limits())  # The limits matter to writers only; nothing is written here.

    @cached_property
    def exchange(self) -> S3Exchange:
        from nightcrew.adapters.exchange import S3Exchange

        return S3Exchange(self.client("s3"), self.outputs.bucket, self.outputs.worker_role_id)

    @cached_property
    def schedules(self) -> SchedulerSchedules:
        from nightcrew.adapters.scheduler import SchedulerSchedules

        return SchedulerSchedules(self.client("scheduler"), self.outputs.schedule_group)

    @cached_property
    def launcher(self) -> LambdaLauncher:
        from nightcrew.adapters.operator_requests import LambdaLauncher

        # Asked once: a second delivery would do no harm, and would hide what went wrong with the first.
        return LambdaLauncher(self.client("lambda", retries=1), self.outputs.launcher)

    @cached_property
    def cancellations(self) -> SqsCancellations:
        from nightcrew.adapters.operator_requests import SqsCancellations

        return SqsCancellations(self.client("sqs"), self.outputs.lifecycle_queue)

    @cached_property
    def launcher_settings(self) -> Settings:
        from nightcrew.adapters.stack import read_launcher_settings

        return read_launcher_settings(self.client("lambda"), self.outputs.launcher)

    @cached_property
    def launch_inputs(self) -> AwsLaunchInputs:
        from nightcrew.adapters.launch_inputs import AwsLaunchInputs

        return AwsLaunchInputs(self.client("ec2"), self.client("ssm"))

    def operate(self, clock: Clock) -> Operate:
        from nightcrew.usecases.operate import Operate

        return Operate(
            jobs=self.jobs,
            schedules=self.schedules,
            files=self.exchange,
            target=self.outputs.schedule_target,
            clock=clock,
        )

    def caller(self) -> str:
        """Return who asks, for the record; the account's own word for it, or a plain one when it does not say."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return str(self.client("sts").get_caller_identity()["Arn"]).rpartition(":")[2]
        except (BotoCoreError, ClientError):
            return "operator"

    def workers_of_stack(self) -> list[tuple[str, str, datetime]]:
        """Return id, state and launch time of every instance with our ownership tag, ended ones included."""
        from nightcrew.domain import tags

        pages = (
            self.client("ec2")
            .get_paginator("describe_instances")
            .paginate(Filters=[{"Name": f"tag:{tags.STACK}", "Values": [self.stack]}])
        )
        return [
            (item["InstanceId"], item["State"]["Name"], item["LaunchTime"])
            for page in pages
            for reservation in page["Reservations"]
            for item in reservation["Instances"]
        ]


def connect(options: GlobalOptions, environment: Mapping[str, str]) -> Connection:
    """Return the connection that the options and the environment ask for; nothing is called yet."""
    import boto3  # noqa: TID251 - this module is the command line's wiring

    if options.local or is_set("NIGHTCREW_LOCAL", environment):
        return _connect_local(options, environment)
    session = boto3.Session(profile_name=options.profile, region_name=options.region or environment.get("AWS_REGION"))
    stack = options.stack or environment.get("NIGHTCREW_STACK") or DEFAULT_STACK
    return Connection(session, stack=stack)


def _connect_local(options: GlobalOptions, environment: Mapping[str, str]) -> Connection:
    import boto3  # noqa: TID251 - this module is the command line's wiring
    import botocore.session

    from nightcrew_cli import local_state

    host = local_state.running_host(environment)
    if host is None:
        raise CommandError("the local stack is not up", "nightcrew local up starts it")
    # Nothing of the person's AWS settings counts here, a profile that does not exist least of all.
    nothing = {name: (None, None, default, None) for name, default in _NO_SETTINGS.items()}
    session = boto3.Session(
        botocore_session=botocore.session.Session(session_vars=nothing),
        # The emulator's root credentials; anything else is a role's and has a role's rights.
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - not a secret
        region_name=host.region,
    )
    stack = options.stack or environment.get("NIGHTCREW_STACK") or host.stack or DEFAULT_STACK
    return Connection(session, stack=stack, endpoint=host.endpoint)
