"""Pictures of networks and of what they do, with matplotlib (the extra ``plot``).

Each function draws into ``ax``, or ``fig``, or into a figure of its own, and returns it: ``.figure.savefig("a.png")``
of Axes, ``.savefig("a.png")`` of a Figure writes a file. A notebook shows what the last line of a cell returns.
No window opens, and pyplot never learns of these figures, so that there is nothing to close.
"""

from portnn.show.plots.classes import boundary, confusion
from portnn.show.plots.curves import gradients, history
from portnn.show.plots.images import activations, digits, filters
from portnn.show.plots.parameters import weights

__all__ = ["activations", "boundary", "confusion", "digits", "filters", "gradients", "history", "weights"]
