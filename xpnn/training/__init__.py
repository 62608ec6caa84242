"""Training: the loop, its steps, and what is known of a run."""

from xpnn.training.loop import EVALUATION_ROWS, evaluate, fit, outputs_of, predict, predict_proba

__all__ = [
    "EVALUATION_ROWS",
    "evaluate",
    "fit",
    "outputs_of",
    "predict",
    "predict_proba",
]
