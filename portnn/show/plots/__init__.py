"""The pictures of ``portnn.plot``; matplotlib is imported by ``canvas.py`` only, and that within the functions."""
