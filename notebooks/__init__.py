"""The notebooks, and how they are executed: ``python -m notebooks`` makes their outputs anew."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
NOTEBOOKS = tuple(sorted(FOLDER.glob("*.ipynb")))

OURS = re.compile(r"^measured how many lanes .*\n| in [\d.]+ s$| · \d+ s$", re.MULTILINE)
"""What the sweep says of this machine and this moment."""


def execute(file: Path, folder: Path, parameters: str | None = None) -> Any:
    """Return the notebook as it is after all its cells ran, in order, in a new kernel.

    Parameters
    ----------
    file
        The notebook.
    folder
        Where the kernel stands, and so where the sweeps leave their store.
    parameters
        What stands in place of the cell tagged `parameters`; None: that cell itself.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        At the first cell that fails.
    """
    notebook = nbformat.read(file, as_version=4)
    if parameters is not None:
        (cell,) = (each for each in notebook.cells if "parameters" in each.metadata.get("tags", ()))
        cell.source = parameters
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=1800, resources=resources, record_timing=False).execute(
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(FOLDER.parent), os.environ.get("PYTHONPATH", ""))),
        }
    )
    return notebook


def tidied(notebook: Any) -> Any:
    """Return an executed notebook without what differs from machine to machine and from time to time."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = OURS.sub("", output.text)
            elif "text/plain" in output.get("data", ()):
                output.data["text/plain"] = OURS.sub("", output.data["text/plain"])
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    return notebook
