"""The method of a network that writes it for other programs."""

from typing import Any

from portnn.habits import answered


class WithExport:
    """What a network does for other programs: ``export``."""

    @answered
    def export(self, path: Any) -> None:
        """Writes the network, for prediction, to a file that needs neither portnn nor any other file.

        The path's ending says what is written. ``"page.html"`` is a page for a browser, on a computer or a phone,
        without a network connection: a pad to draw digits on if the network takes images of 28 x 28 pixels (they
        are centred as MNIST's are, see ``datasets.prepare_digit``), else a field for each number. It holds the weights
        and the forward pass, written out layer by layer in JavaScript, shows what each layer returns, and computes
        what ``predict`` returns, to 1e-5 of the largest value.

        On a page with a pad the network gets pixels from 0 to 255 if it scales them itself, by a first
        ``ScaleLayer(1 / 255)`` or by batch normalization that was trained on them; else from 0 to 1. The page can be
        switched.

        Raises ValueError for other endings, and one that lists all layers that have no counterpart, such as layers of
        your own; RuntimeError for a network without layers, or with parameters that are created on the first batch;
        OSError where writing fails: the old file is then as it was.
        """
        from portnn.exchange.export import export

        export(self, path)
