"""The Python file that runs a network with NumPy alone: ``write`` puts it together.

``assets/layers.py`` has a function for each kind of layer, and is copied into the file function by function.
"""
