"""Execute the named notebooks, or all, and save them with their outputs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat

from notebooks import NOTEBOOKS, execute, tidied

for file in map(Path, sys.argv[1:]) if sys.argv[1:] else NOTEBOOKS:
    print(file.name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(tidied(execute(file, Path(folder))), file)
