"""moto's AWS on the loopback, in a process of its own: it ends when whoever started it does."""

from __future__ import annotations

import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import boto3
from botocore.config import Config

ACCOUNT = "123456789012"
_RAW = {"Content-Type": "application/octet-stream"}


class Moto:
    """``with`` runs it; ``url`` is where."""

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._child.stdout.readline()
        assert line, "moto did not start"
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()

    def client(self, service: str, **credentials: str) -> Any:
        """A client of moto's; whose, only matters while permissions are looked at."""
        credentials = credentials or {"aws_access_key_id": "root", "aws_secret_access_key": "secret"}
        config = Config(proxies={}, s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", config=config, **credentials)

    def put(self, bucket: str, key: str, data: bytes, **facts: Any) -> None:
        """Make the bucket and put an object into it."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=data, **facts)
        s3.close()

    def user(self, name: str, policy: str) -> dict[str, str]:
        """A new user with a policy, as the arguments of ``client``."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.close()
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    @contextmanager
    def permissions(self) -> Iterator[None]:
        """Have permissions looked at."""
        self._look_after(0)
        try:
            yield
        finally:
            self._look_after(10**9)

    def _look_after(self, requests: int) -> None:
        asked = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=str(requests).encode(), headers=_RAW)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
            assert answer.status == 200


def _serve() -> None:
    # Only the child needs the server.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request otherwise
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
