"""The deployed stack: its outputs, and the settings that its launcher works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from nightcrew.adapters import operator_errors
from nightcrew.usecases.operate import OperatorError, ScheduleTarget
from nightcrew.usecases.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient

_READY = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOutputs:
    """What the template tells about itself."""

    stack: str
    table: str
    bucket: str
    launcher: str
    launcher_arn: str
    lifecycle_queue: str
    schedule_group: str
    scheduler_role: str
    scheduler_dead_letters: str
    worker_role_id: str

    @property
    def schedule_target(self) -> ScheduleTarget:
        return ScheduleTarget(
            launcher=self.launcher_arn, role=self.scheduler_role, dead_letters=self.scheduler_dead_letters
        )


_OUTPUTS = {
    "table": "TableName",
    "bucket": "BucketName",
    "launcher": "LauncherName",
    "launcher_arn": "LauncherArn",
    "lifecycle_queue": "LifecycleQueueUrl",
    "schedule_group": "ScheduleGroupName",
    "scheduler_role": "SchedulerRoleArn",
    "scheduler_dead_letters": "SchedulerDeadLetterQueueArn",
    "worker_role_id": "WorkerRoleId",
}


def read_outputs(client: CloudFormationClient, stack: str, *, where: str, deploy: str) -> StackOutputs:
    """Return the outputs of a deployed stack. Raises OperatorError, with `deploy` as the way to get one."""
    try:
        found = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if operator_errors.is_missing_stack(error):
            raise OperatorError(f"there is no stack {stack!r} in {where}", deploy, _OTHER_STACK) from error
        raise
    outputs = {item.get("OutputKey", ""): item.get("OutputValue", "") for item in found.get("Outputs", [])}
    missing = [output for output in _OUTPUTS.values() if not outputs.get(output)]
    status = found["StackStatus"]
    if missing and status not in _READY:
        raise OperatorError(
            f"stack {stack!r} in {where} is not ready: {status}", "try again when it is complete", deploy
        )
    if missing:
        raise OperatorError(
            f"stack {stack!r} in {where} is not a Nightcrew stack of this version: it lacks {', '.join(missing)}",
            _OTHER_STACK,
        )
    return StackOutputs(stack=stack, **{name: outputs[output] for name, output in _OUTPUTS.items()})


_OTHER_STACK = "another name or Region: --stack, --region, or NIGHTCREW_STACK"


def read_launcher_settings(client: LambdaClient, function: str) -> Settings:
    """Return what the launcher itself works with: launch template, subnets, limits. Raises SettingsError."""
    configuration = client.get_function_configuration(FunctionName=function)
    return Settings.from_env(configuration.get("Environment", {}).get("Variables", {}))
