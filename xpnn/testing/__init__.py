"""Checks of your own parts on every backend: gradients and optimizers."""

from xpnn.testing.gradients import check_gradients
from xpnn.testing.optimizers import check_optimizer
from xpnn.testing.report import PartError, Report, Row

__all__ = [
    "PartError",
    "Report",
    "Row",
    "check_gradients",
    "check_optimizer",
]
