"""A function that shows what it can see and do: its layer, its input, its role."""

import importlib.util
import json
import os

import boto3
import thelayer
from botocore.exceptions import ClientError


def lambda_handler(event, _context):
    report = {
        "layer": thelayer.NAME,
        "event": event,
        "sees_host_packages": importlib.util.find_spec("ministack") is not None,
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "identity": boto3.client("sts").get_caller_identity()["Arn"],
    }
    report["call"] = _try(event.get("call")) if isinstance(event, dict) else None
    print(json.dumps(report))
    if isinstance(event, dict) and "put" in event:
        boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=event["put"], Body=json.dumps(report).encode())
    return report


def _try(call):
    if not call:
        return None
    try:
        answer = getattr(boto3.client(call["service"]), call["name"])(**call.get("arguments", {}))
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}
    answer.pop("ResponseMetadata", None)
    return json.loads(json.dumps(answer, default=str))
