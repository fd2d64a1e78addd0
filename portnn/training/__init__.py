"""Training: the loop over epochs, the train step, its state and its batches."""

from portnn.training.loop import DivergedError, History, ResumeWarning

__all__ = ["DivergedError", "History", "ResumeWarning"]
