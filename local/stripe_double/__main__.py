"""`python -m local.stripe_double --port N [--lag-seconds S]`: the double as a process of its own, on loopback."""

from __future__ import annotations

import argparse
import signal
import sys

from local.stripe_double.courier import carrying
from local.stripe_double.meter_events import LATE_CHECKS
from local.stripe_double.server import HOST, bind, build
from local.stripe_double.state import Double


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Exit code 0 after a signal, 2 for wrong arguments or a taken port."""
    parser = argparse.ArgumentParser(prog="python -m local.stripe_double", description="Stripe's API, pretended.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--lag-seconds", type=int, default=0, help="how late events show in summaries (default 0)")
    parser.add_argument("--latency-seconds", type=float, default=0.005, help="how long a meter event call takes")
    parser.add_argument(
        "--late-check",
        action="append",
        default=[],
        choices=sorted(LATE_CHECKS),
        help="report this problem later in place of a 400; may be repeated",
    )
    options = parser.parse_args(arguments)
    try:
        double = Double(
            lag_seconds=options.lag_seconds,
            latency_seconds=options.latency_seconds,
            late_checks=frozenset(options.late_check),
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        listener = bind(options.port)
    except (OSError, OverflowError) as error:
        print(f"stripe double: cannot listen on {HOST}:{options.port}: {error}", file=sys.stderr)
        return 2

    # uvicorn ends cleanly on a signal and then raises it again: here that means exit code 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    print(f"stripe double ready http://{HOST}:{listener.getsockname()[1]}", flush=True)
    with carrying(double):
        build(double).run([listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
