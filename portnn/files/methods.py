"""The methods of a network that write and read files."""

from typing import Any, TypeVar

from portnn.habits import answered

Net = TypeVar("Net", bound="WithFiles")


class WithFiles:
    """What a network does with files: ``save``, ``load`` and ``load_weights``."""

    @answered
    def save(self, path: Any) -> None:
        """Writes the network, with all that its training depends on, to a file, such as ``net.portnn.safetensors``.

        It holds layers, parameters, buffers, optimizer with its slots, loss, metrics, seed, history and counters.
        A crash at any moment leaves the old file or the new one. OSError where writing fails; TypeError for what no
        file can hold, such as a layer of your own that takes arguments and has no ``config``.
        """
        from portnn.files.writing import write

        write(self, path)

    @classmethod
    @answered
    def load(cls: type[Net], path: Any, *, layers: Any = (), backend: Any = "cpu") -> Net:
        """Returns the network that ``save`` wrote to a file; it predicts and trains on to the same bits.

        ``layers`` are the classes and functions of your own that it uses, ``layers=[Gain, my_loss, my_loss_prime]``:
        nothing in a file is imported or executed. ``backend`` is where the network is to run. FileError (a
        ValueError) if the file is damaged, from a newer version, or names something that was not given.
        """
        from portnn.files.filling import load

        network: Net = load(cls, path, layers, backend)
        return network

    @answered
    def load_weights(self, path: Any) -> None:
        """Takes the parameters and buffers of a file, by path; optimizer and counters stay as they are.

        FileError lists what is missing, misshapen or too much; nothing is changed then.
        """
        from portnn.files.filling import load_weights

        load_weights(self, path)
