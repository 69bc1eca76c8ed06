"""Imported first by functions on the request path: no garbage collection while modules load.

Loading makes hundreds of thousands of objects that stay, and every collection on the way looks at all of them again: a
tenth of the start (`make bench`). Once a function is ready, `ready` puts them out of the collector's sight, so that its
requests do not pay for them either.
"""

from __future__ import annotations

import gc

gc.disable()


def ready() -> None:
    """Everything is loaded: collect garbage from here on, among what requests make."""
    gc.freeze()
    gc.enable()
