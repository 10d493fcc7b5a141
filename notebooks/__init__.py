"""The notebooks, and how to execute them: ``python -m notebooks`` renews their outputs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
NOTEBOOKS = tuple(sorted(FOLDER.glob("*.ipynb")))

VARYING_OUTPUT = re.compile(
    r"^(?:measured how many lanes|picture:) .*\n| in [\d.]+ s(?=;|$)| · \d+ s$", re.MULTILINE
)
"""The output of a sweep or a map that depends on the machine or the time."""


def execute(file: Path, folder: Path, parameters: str | None = None) -> Any:
    """Return the notebook after running all its cells in order in a new kernel.

    Parameters
    ----------
    file
        The notebook.
    folder
        The working directory of the kernel, where sweeps create their store.
    parameters
        Code that replaces the cell tagged `parameters`. None: run that cell.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(file, as_version=4)
    if parameters is not None:
        (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
        cell.source = parameters
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=1800, resources=resources, record_timing=False).execute(
        env={
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
            "PYTHONPATH": os.pathsep.join((str(FOLDER.parent), os.environ.get("PYTHONPATH", ""))),
        }
    )
    return notebook


def tidied(notebook: Any) -> Any:
    """Return an executed notebook without what differs between machines or over time."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = VARYING_OUTPUT.sub("", output.text)
            elif "text/plain" in output.get("data", ()):
                output.data["text/plain"] = VARYING_OUTPUT.sub("", output.data["text/plain"])
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    return notebook
