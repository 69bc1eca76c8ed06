"""`python -m tollgate_cli`."""

from __future__ import annotations

from tollgate_cli.app import app

if __name__ == "__main__":
    app(prog_name="tollgate")
