"""The version of the library, in a module of its own: others can import it without importing the whole package."""

__version__ = "0.1.0"
