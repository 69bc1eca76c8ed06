"""Secrets from SSM Parameter Store (SecureString), read once per process at its start."""

from __future__ import annotations

from functools import lru_cache

from botocore.config import Config

from tollgate import dynamo


@lru_cache(maxsize=8)
def read(parameter_name: str) -> str:
    """The decrypted value of a parameter. Raises ClientError: a function without its secret must not start."""
    client = dynamo.session().create_client(
        "ssm", config=Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 4})
    )
    value: str = client.get_parameter(Name=parameter_name, WithDecryption=True)["Parameter"]["Value"]
    return value
