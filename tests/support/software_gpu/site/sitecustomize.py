"""Puts the software device under every Python program with this folder on its path, if PORTNN_SOFTWARE_GPU is set."""

import os
import sys
from pathlib import Path

if os.environ.get("PORTNN_SOFTWARE_GPU", "") not in ("", "0"):
    sys.path.append(str(Path(__file__).parents[2]))  # the folder with the package
    import software_gpu

    software_gpu.install()
