"""``python -m portnn``: the command line."""

import sys

from portnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
