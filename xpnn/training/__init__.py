"""Training: the loop, its steps, and what is known of a run."""

from xpnn.training.loop import fit

__all__ = ["fit"]
