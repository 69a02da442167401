"""A handle on a deployed local stack, with what the tests of this folder ask of it."""

import json
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from nightcrew_cli.local import Deployment, Host, LocalHost, clock


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The deployed stack, with clients of its administrator."""

    host: Host
    deployment: Deployment

    @property
    def control(self) -> LocalHost:
        return self.host.control

    def client(self, service: str, **credentials: str) -> Any:
        """Return a client that tries once: a test wants to see the first answer."""
        chosen = credentials or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(
            service,
            endpoint_url=self.host.running.endpoint,
            region_name=self.host.running.region,
            config=Config(retries={"total_max_attempts": 1}),
            **chosen,
        )

    def launch(self, token: str = "", **more: Any) -> dict[str, Any]:
        """Launch through CreateFleet as the launcher does; keyword arguments replace parts of the request."""
        tags = [{"Key": "nightcrew:stack", "Value": "small"}, {"Key": "nightcrew:run", "Value": "run-1"}]
        request: dict[str, Any] = {
            "Type": "instant",
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface", "fleet")
            ],
            "LaunchTemplateConfigs": [self.template_config()],
            "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
            **more,
        }
        if token:
            request["ClientToken"] = token
        return dict(self.client("ec2").create_fleet(**request))

    def template_config(self, *overrides: dict[str, Any]) -> dict[str, Any]:
        outputs = self.deployment.outputs
        reference = {
            "LaunchTemplateId": outputs.get("LaunchTemplateId", ""),
            "Version": outputs.get("LaunchTemplateVersion", ""),
        }
        return {
            "LaunchTemplateSpecification": reference,
            "Overrides": list(overrides) or [{"InstanceType": "c7g.large"}],
        }

    def launch_one(self, **more: Any) -> str:
        return str(self.launch(**more)["Instances"][0]["InstanceIds"][0])

    def wait_for_state(self, instance_id: str, state: str, seconds: float = 10.0) -> None:
        def reached() -> bool:
            instance = self.control.instance(instance_id)
            return instance is not None and instance.state == state

        assert clock.wait_until(reached, seconds), self.control.instance(instance_id)

    def wait_for_console(self, instance_id: str, text: str, seconds: float = 15.0) -> None:
        found = clock.wait_until(lambda: text in self.control.console(instance_id), seconds)
        assert found, self.control.console(instance_id)

    def describe(self, instance_id: str) -> dict[str, Any]:
        answer = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def states_told(self, instance_id: str) -> list[str]:
        """Return the states that arrived in the rule's queue, in order of arrival."""
        sqs, url = self.client("sqs"), self.deployment.outputs["QueueUrl"]
        found: list[str] = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                detail = json.loads(message["Body"])["detail"]
                if detail.get("instance-id") == instance_id:
                    found.append(detail.get("state") or detail.get("instance-action") or "rebalance")
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found
