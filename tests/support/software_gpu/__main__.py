"""``python -m software_gpu``: says why there can be no GPU in software here (exit status 1), or builds it."""

import sys

from software_gpu import builds

reason = builds.unavailable()
print(f"no GPU in software: {reason}" if reason else f"GPU in software: {builds.device()}")
sys.exit(reason is not None)
