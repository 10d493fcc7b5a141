"""``python -m fnnexp`` is ``fnnexp``."""

import sys

from fnnexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
