"""Writes openapi.json and catalog.schema.json from the code. `--check` only compares, and exits 1 where they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "layers/common"))


def files() -> dict[Path, str]:
    """What the files should hold."""
    from tollgate.catalog.schema import json_schema
    from tollgate.http.openapi_document import document

    made = {"openapi.json": document(), "catalog.schema.json": json_schema()}
    return {ROOT / name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in made.items()}


def main(arguments: list[str]) -> int:
    stale = {
        path: text for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if "--check" in arguments:
            print(f"{path.name} does not say what the code says: run `make openapi`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
