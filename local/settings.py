"""What the local stack is told by its environment, checked once at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
HOST = "127.0.0.1"
STACK_NAME = "tollgate-local"
LOCAL_API_KEY = "tg_test_local"
DEFAULT_STRIPE_KEY = "sk_test_local"
LOCAL_WEBHOOK_SECRET = "whsec_local"
DEFAULT_PORT = 8787

# What a sub-process may inherit: enough to find an interpreter and a temporary folder, no one's credentials.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
# The real sandbox is reached through the machine's own way out; the double never is.
_NETWORK = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
)


class StartupError(Exception):
    """The stack cannot start. The text is all that the person at the terminal gets to see."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Ports, folders and knobs of one local stack."""

    root: Path
    """The checkout."""
    state: Path
    """Logs and the clock file; `.local/` unless told otherwise."""
    template: Path
    catalog: Path
    port: int
    seal_seconds: int
    seal_grace_seconds: int
    stripe_lag_seconds: int
    """Seconds (of the double's clock) until a meter event shows in the double's summaries."""
    shadow: bool
    """Whether flush only watches (the template's Shadow)."""
    stripe_key: str
    real_stripe: bool
    dynamodb_url: str | None
    """Another DynamoDB; None means the AWS double."""
    force_runtime_loop: bool
    """Run functions in the pure Python loop even where awslambdaric is installed."""
    inherited: Mapping[str, str]
    network: Mapping[str, str]
    """The machine's way out, for what calls the real sandbox."""

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def stripe_port(self) -> int:
        return self.port + 1

    @property
    def aws_port(self) -> int:
        return self.port + 2

    @property
    def stripe_url(self) -> str | None:
        """Where the Stripe double listens; None with the real sandbox."""
        return None if self.real_stripe else f"http://{HOST}:{self.stripe_port}"

    @property
    def aws_url(self) -> str:
        return f"http://{HOST}:{self.aws_port}"

    @property
    def dynamodb_endpoint(self) -> str:
        return self.dynamodb_url or self.aws_url

    def aws_environment(self) -> dict[str, str]:
        """The variables that point an AWS SDK at the doubles and give it credentials that open nothing."""
        return {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Profiles in the home folder could name other regions, endpoints and accounts.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            # The general endpoint too: no call of any service can leave the machine.
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_endpoint,
            "AWS_ENDPOINT_URL_SQS": self.aws_url,
            "AWS_ENDPOINT_URL_SSM": self.aws_url,
        }

    def stripe_environment(self) -> dict[str, str]:
        """The variables with which a function finds Stripe: the double, or the machine's way to the real sandbox."""
        return dict(self.network) if self.stripe_url is None else {"TOLLGATE_STRIPE_API_BASE": self.stripe_url}


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise StartupError(f"{name}={text!r} is not a whole number from {low} to {high}.")
    return int(text)


def _switch(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "false"
    if text not in ("true", "false"):
        raise StartupError(f"{name}={text!r} is neither true nor false.")
    return text == "true"


def _file(environ: Mapping[str, str], name: str, root: Path, default: str) -> Path:
    path = root / (environ.get(name) or default)
    if not path.is_file():
        raise StartupError(f"{path} does not exist." + (f" ({name} names it.)" if environ.get(name) else ""))
    return path.resolve()


def read_settings(environ: Mapping[str, str], root: Path) -> Settings:
    """Settings from the environment.

    Raises StartupError for a value that makes no sense, for a missing template or catalogue, and for a live Stripe key.
    """
    key = environ.get("STRIPE_SECRET_KEY", "")
    if key and not key.startswith(("sk_test_", "rk_test_")):
        raise StartupError(
            "STRIPE_SECRET_KEY is not a test key (sk_test_...). The local stack never runs against live Stripe; "
            "unset it to use the Stripe double."
        )
    real = bool(key) and key != DEFAULT_STRIPE_KEY
    state = root / (environ.get("TOLLGATE_LOCAL_DIR") or ".local")
    return Settings(
        root=root,
        state=state.resolve(),
        template=_file(environ, "TOLLGATE_TEMPLATE", root, "template.yaml"),
        catalog=_file(environ, "TOLLGATE_CATALOG", root, "catalog.yaml"),
        port=_integer(environ, "TOLLGATE_PORT", DEFAULT_PORT, 1024, 65533),
        seal_seconds=_integer(environ, "TOLLGATE_SEAL_SECONDS", 5, 1, 3600),
        seal_grace_seconds=_integer(environ, "TOLLGATE_SEAL_GRACE_SECONDS", 6, 0, 3600),
        stripe_lag_seconds=_integer(environ, "TOLLGATE_STRIPE_LAG_SECONDS", 0, 0, 1_000_000),
        shadow=_switch(environ, "TOLLGATE_SHADOW"),
        stripe_key=key or DEFAULT_STRIPE_KEY,
        real_stripe=real,
        dynamodb_url=environ.get("AWS_ENDPOINT_URL_DYNAMODB") or None,
        force_runtime_loop=environ.get("TOLLGATE_RUNTIME_LOOP") == "1",
        inherited={name: environ[name] for name in _INHERITED if name in environ},
        network=_network(environ) if real else {},
    )


def _network(environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: environ.get(name) or environ.get(name.lower(), "") for name in _NETWORK}
    # The doubles of AWS stay on the machine.
    found["NO_PROXY"] = ",".join(filter(None, (found["NO_PROXY"], HOST, "localhost")))
    return {name: value for name, value in found.items() if value}
