"""Checks for users: ``gradcheck`` for derivatives, ``compare_backends`` for two backends in lockstep."""
