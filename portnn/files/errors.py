"""The error for a file that cannot be used."""


class FileError(ValueError):
    """A file cannot be read, or does not fit the network: it says what was found and what was expected.

    Nothing has been changed, and nothing in the file has been executed.
    """
