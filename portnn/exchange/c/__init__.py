"""The C file that runs a network without a library: ``write`` puts it together, ``loops`` writes each layer's loops.

``assets/functions.c`` has the activation functions. All is written for ``float``, and changed at the end where a
network computes in ``double``.
"""
