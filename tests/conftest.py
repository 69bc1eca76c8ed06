"""What every suite shares."""

from __future__ import annotations

pytest_plugins = ["tests.support.stack"]
