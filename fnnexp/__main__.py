"""Run the command line: ``python -m fnnexp`` does the same as ``fnnexp``."""

import sys

from fnnexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
