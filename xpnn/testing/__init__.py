"""Checks of parts of your own: gradients and optimizers, in every library."""

from xpnn.testing.gradients import PartError, Report, Row, check_gradients, check_optimizer

__all__ = [
    "PartError",
    "Report",
    "Row",
    "check_gradients",
    "check_optimizer",
]
