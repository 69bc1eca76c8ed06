"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import (
    anomalies,
    billing,
    calls,
    cpu,
    dollars,
    gate_size,
    idle,
    imports,
    projection,
    reconcile,
    report,
    shared,
)
from bench.report import Section
from bench.stage import stage

ALONE: Final[Mapping[str, Callable[[], Section]]] = {"anomalies": anomalies.section, "projection": projection.section}
"""Sections that can be had by themselves."""


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--counted", action="store_true", help="only what is the same on every machine")
    parser.add_argument("--only", choices=tuple(ALONE), help="one section by itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "No application metrics to publish")  # a function that had nothing to measure
    # The stage takes what is printed inside it for the functions' logs.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 130)
    sections: list[Section] = []

    def add(section: Section) -> None:
        sections.append(section)
        report.show(section, console)

    if options.only:
        add(ALONE[options.only]())
    else:
        _whole(add, counted_only=options.counted)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(sections), indent=2) + "\n")
    past = report.failures(sections)
    for check in past:
        console.print(f"past its budget: {check.what}: {report.shown(check.measured)} {check.unit}", style="red")
    return 1 if past else 0


def _whole(add: Callable[[Section], None], *, counted_only: bool) -> None:
    with stage() as running:
        nobody = idle.section(running)  # first: the stage is empty
        counted, found, minutes = calls.section(running)
        add(counted)
        logged = calls.logged_by_a_pair(running)
        add(shared.section(running, found))
        add(gate_size.section(running))
        billed, window = billing.section(running)
        add(billed)
    add(dollars.section(found, minutes, window, logged))
    add(nobody)
    if counted_only:
        add(Section("Start of the gate function", (), [imports.stripe_check()]))
    else:
        add(cpu.section())
        add(imports.section())
    add(reconcile.section(reconcile.COUNTED if counted_only else reconcile.PAIRS))
    add(projection.section())
    add(anomalies.section())
