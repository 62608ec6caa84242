"""What tests of several modules share."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(**variables):
    """Return this environment for a process that shall find xpnn, beside all that is found here."""
    path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | variables
