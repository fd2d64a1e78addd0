"""Training: the loop over epochs, the train step, its state and its batches."""

from portnn.training.divergence import DivergedError
from portnn.training.loop import History, ResumeWarning

__all__ = ["DivergedError", "History", "ResumeWarning"]
