"""Training: the loop of epochs, the step, the state that it changes, its batches."""

from portnn.training.loop import DivergedError, History

__all__ = ["DivergedError", "History"]
