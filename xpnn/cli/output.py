"""What commands print, and their exit statuses."""

from __future__ import annotations

import sys

DIFFERENT, FAILED, USAGE_ERROR, INTERRUPTED = 1, 1, 2, 130


def complain(message: str) -> None:
    """Print a line to standard error."""
    print(f"xpnn: {message}", file=sys.stderr, flush=True)
