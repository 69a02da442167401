"""S3 with one bucket, SNS with one topic, SSM with one parameter: what is put, read and published."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.calls import Client, client_error
from tests.simulation.ec2_client import IMAGE

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(eq=False)
class Bucket:
    """`created` tells EventBridge; `arrived` tells guests that wait for a roster."""

    objects: dict[str, bytes] = field(default_factory=dict)
    created: Callable[[str], None] = lambda key: None
    arrived: Callable[[str], None] = lambda key: None

    def put(self, key: str, body: bytes) -> None:
        self.objects[key] = body
        self.created(key)
        self.arrived(key)


class S3Client(Client):
    service = "s3"

    def __init__(self, world: World, bucket: Bucket) -> None:
        super().__init__(world)
        self._bucket = bucket

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str = "") -> None:  # noqa: N803
        assert Bucket
        assert Key.startswith("launches/"), f"our functions write rosters and nothing else: {Key} {ContentType}"
        self._call("PutObject", lambda: self._bucket.put(Key, Body), writes=True)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        assert Bucket

        def act() -> dict[str, Any]:
            if Key not in self._bucket.objects:
                raise client_error("NoSuchKey", "The specified key does not exist.", "GetObject", 404)
            return {"Body": io.BytesIO(self._bucket.objects[Key])}

        return self._call("GetObject", act)


class SnsClient(Client):
    service = "sns"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.published: list[str] = []

    def publish(self, *, TopicArn: str, Subject: str, Message: str) -> None:  # noqa: N803
        assert TopicArn
        assert Message
        assert len(Subject) <= 100
        assert Subject.isprintable()
        self._call("Publish", lambda: self.published.append(Subject), writes=True)


class SsmClient(Client):
    service = "ssm"

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803
        assert Name
        return self._call("GetParameter", lambda: {"Parameter": {"Value": IMAGE}})
