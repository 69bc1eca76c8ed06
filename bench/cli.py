"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import calls, gate_size, report
from bench.report import Section
from bench.stage import stage


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--counted", action="store_true", help="only what is the same on every machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    console = Console()
    sections: list[Section] = []

    def add(section: Section) -> None:
        sections.append(section)
        report.show(section, console)

    with stage() as running:
        counted, found = calls.section(running)
        add(counted)
        add(gate_size.section(running))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(sections), indent=2) + "\n")
    past = report.failures(sections)
    for check in past:
        console.print(f"past its budget: {check.what}: {report.shown(check.measured)} {check.unit}", style="red")
    return 1 if past else 0
