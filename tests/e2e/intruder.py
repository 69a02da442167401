"""Runs on a worker: asks S3, with the worker's own credentials, for what it may and may not have; prints the answers.

Arguments: exchange bucket, worker role id. Standard library only: a worker has nothing else.
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.error
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

BUCKET, ROLE_ID = sys.argv[1:3]
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
METADATA = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rstrip("/")
REGION = os.environ["AWS_REGION"]


def ask_metadata(path, method="GET", headers=None):
    request = Request(f"{METADATA}/latest/{path}", method=method, headers=headers or {})
    return urlopen(request, timeout=5).read().decode()


token = ask_metadata("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
session = {"X-aws-ec2-metadata-token": token}
role = ask_metadata("meta-data/iam/security-credentials/", headers=session).strip()
keys = json.loads(ask_metadata(f"meta-data/iam/security-credentials/{role}", headers=session))
me = ask_metadata("meta-data/instance-id", headers=session)


def sign(method, path, query, body):
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": urlsplit(ENDPOINT).netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": now,
        "x-amz-security-token": keys["Token"],
    }
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
    canonical = "\n".join([method, quote(path), query, *lines, "", names, digest])
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in (now[:8], REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={keys['AccessKeyId']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return headers


def answer(method, path, query=""):
    body = b"x" if method == "PUT" else b""
    url = ENDPOINT + quote(path) + (f"?{query}" if query else "")
    try:
        headers = sign(method, path, query, body)
        return urlopen(Request(url, data=body or None, method=method, headers=headers), timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code


print("own-prefix", answer("PUT", f"/{BUCKET}/workers/{ROLE_ID}:{me}/probe"))
print("foreign-prefix", answer("PUT", f"/{BUCKET}/workers/{ROLE_ID}:i-00000000000000000/probe"))
print("other-role", answer("PUT", f"/{BUCKET}/workers/AROAOTHER:{me}/probe"))
print("roster-write", answer("PUT", f"/{BUCKET}/launches/{'0' * 32}/roster.json"))
print("roster-guess", answer("GET", f"/{BUCKET}/launches/{'0' * 32}/roster.json"))
print("list", answer("GET", f"/{BUCKET}", "list-type=2"))
print("own-result-read", answer("GET", f"/{BUCKET}/workers/{ROLE_ID}:{me}/probe"))
