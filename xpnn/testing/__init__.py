"""Checks of your own parts on every backend, and of your own code on every array library.

The fixtures of `xpnn.pytest_plugin` run a test on several libraries.
"""

from xpnn.testing.bits import assert_same_bits
from xpnn.testing.gradients import check_gradients
from xpnn.testing.libraries import same_on_all
from xpnn.testing.optimizers import check_optimizer
from xpnn.testing.report import PartError, Report, Row

__all__ = [
    "PartError",
    "Report",
    "Row",
    "assert_same_bits",
    "check_gradients",
    "check_optimizer",
    "same_on_all",
]
