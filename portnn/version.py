"""The version of the library; it is apart so that no room has to import the whole house for it."""

__version__ = "0.1.0"
