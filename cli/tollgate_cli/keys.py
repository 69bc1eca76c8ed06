"""`tollgate keys`: API keys."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.accounts.key_store import ApiKey
from tollgate.clock import rfc3339
from tollgate_cli.output import fail, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


class Scope(StrEnum):
    """What a key may do; admin includes the others."""

    USAGE = "usage"
    READ = "read"
    ADMIN = "admin"


class Mode(StrEnum):
    TEST = "test"
    LIVE = "live"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for, at most 64 characters.")] = "admin",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Repeat for several; admin includes the others. Default: admin.")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="Must be the stack's own mode.", show_default="the stack's")] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Create a key. Its secret is printed once, alone on standard output, and stored nowhere."""
    if not 1 <= len(name) <= 64:
        fail("--name has 1 to 64 characters.", 2)
    scopes = list(dict.fromkeys(one.value for one in scope or [Scope.ADMIN]))
    with connected(stack, profile, region) as target:
        if mode is not None and mode.value != target.mode:
            fail(f"{target.name} is in {target.mode} mode: a {mode.value} key would be misleading there.", 2)
        key, secret = wiring.keys(target.env).create(name, target.mode, scopes)
    note(f"Key {key.id} `{name}` of {target.name} ({', '.join(scopes)}). Keep this secret, it is not shown again:")
    print(secret)


@app.command("list")
def list_keys(stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """List all keys, newest first."""
    with connected(stack, profile, region) as target:
        found = wiring.keys(target.env).list()
    rows = [
        (key.id, key.name, key.prefix + "…", " ".join(key.scopes), _when(key.created_ms), _state(key)) for key in found
    ]
    out().print(table(f"Keys of {target.name}", ("id", "name", "secret", "scopes", "created", "state"), rows))
    if not found:
        note("There is no key yet: `tollgate keys create` makes the first.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `tollgate keys list` shows it: key_…")],
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Revoke a key; it stops working within 60 seconds. Revoking again is harmless."""
    if not key_id.startswith("key_"):
        fail("A key's id begins with key_; `tollgate keys list` shows them. Never pass a secret here.", 2)
    with connected(stack, profile, region) as target:
        wiring.keys(target.env).revoke(key_id)
    note(f"{key_id} of {target.name} is revoked; the last function forgets it within 60 seconds.")


def _when(ms: int) -> str:
    return rfc3339(ms // 1000)


def _state(key: ApiKey) -> str:
    return "active" if key.revoked_ms is None else f"revoked {_when(key.revoked_ms)}"
