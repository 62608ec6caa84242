"""Training: the loop, its steps, its log, and how a run is resumed."""

from xpnn.training.loop import fit

__all__ = ["fit"]
