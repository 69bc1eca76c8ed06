"""What every suite shares."""

from __future__ import annotations

from local import dynamodb_tables

pytest_plugins = ["tests.support.stack"]

dynamodb_tables.lighten()
