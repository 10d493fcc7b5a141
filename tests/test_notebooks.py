"""The notebooks run from top to bottom, and are committed with their outputs."""

from __future__ import annotations

import ast
import getpass
import json
import os
import platform
import re
import signal

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import fnnexp
from notebooks import FOLDER, NOTEBOOKS, execute, tidied

PUBLIC = {"fnnexp", "matplotlib.pyplot", "numpy", "pandas"}
SHORT = {
    "2_does_initialization_matter.ipynb": 'data = "digits"\nseeds = range(4)',
    # Takes seconds instead of minutes. Without MNIST the cells run on digits; only their success matters.
    "3_published_experiments.ipynb": 'seeds = range(1)\nsettings = {{"epochs": 1, "data": "{data}"}}',
}


def committed(file):
    return nbformat.read(file, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_six_notebooks():
    assert [file.name[0] for file in NOTEBOOKS] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_from_top_to_bottom(store, own_folder, file):
    data = "mnist" if os.environ.get("FNNEXP_MNIST") else "digits"
    short = SHORT.get(file.name)
    ran = execute(file, own_folder, short and short.format(data=data))
    assert [cell.execution_count for cell in code(ran)] == list(range(1, len(code(ran)) + 1))
    outputs = [output for cell in code(ran) for output in cell.outputs]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert [len(cell.outputs) > 0 for cell in code(ran)] == [
        len(c.outputs) > 0 for c in code(committed(file))
    ]
    for output in outputs:
        assert "\x1b" not in output.get("text", "") + output.get("data", {}).get("text/plain", "")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_committed_with_its_outputs(file):
    notebook = committed(file)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    silent = [cell.source for cell in code(notebook) if not cell.outputs]
    assert all(re.match(r"import |data = |seeds = |def ", source) for source in silent), silent
    assert "error" not in {output.output_type for cell in code(notebook) for output in cell.outputs}
    assert json.dumps(tidied(committed(file))) == json.dumps(notebook)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_reveals_nothing_about_the_machine(file):
    texts = [cell.source for cell in committed(file).cells]
    for cell in code(committed(file)):
        for output in cell.outputs:
            texts += [
                output.get("text", ""),
                *(str(v) for k, v in output.get("data", {}).items() if "image" not in k),
            ]
    text = "\n".join(texts)
    assert not re.findall(
        r"(?:^|[\s'\"(])(?:/(?:home|root|tmp|usr|opt|var|work|Users)\b|[A-Z]:\\|file:)", text
    )
    names = {platform.node(), getpass.getuser()} - {"", "root", "user", "localhost"}
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_uses_only_the_public_api(file):
    for cell in code(committed(file)):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= PUBLIC
            assert not isinstance(node, ast.ImportFrom)
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "fnnexp"
            ):
                assert node.attr in dir(fnnexp)


def test_the_links_of_a_notebook_exist():
    for file in NOTEBOOKS:
        for cell in committed(file).cells:
            for target in re.findall(r"\]\(([^)]+)\)", cell.source) if cell.cell_type == "markdown" else ():
                assert (FOLDER / target).is_file(), target


def test_tidying_removes_what_differs_between_runs():
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python", "version": "3.11.7"}})
    notebook.cells.append(nbformat.v4.new_code_cell("sweep()"))
    notebook.cells[0].outputs = [
        nbformat.v4.new_output(
            "stream", text="measured how many lanes suit 1 kinds of trials here\n5 done in 1.2 s\n"
        ),
        nbformat.v4.new_output("stream", text="measured how many lanes suit 2 kinds of trials here\n"),
        nbformat.v4.new_output("display_data", {"text/plain": "━━ epochs 2/2 · 13 s\ntrials 2/2"}),
    ]
    first, second = tidied(notebook).cells[0].outputs
    assert first.text == "5 done\n"
    assert second.data["text/plain"] == "━━ epochs 2/2\ntrials 2/2"
    assert "3.11" not in str(notebook.metadata)


LONG = """
import fnnexp
execution = {"execution.segment_seconds": 0.2, "execution.n_jobs": 2}
fnnexp.sweep("init_grid", init=["max", "he"], data="digits", epochs=9000, seed=[0, 1], **execution)
"""


class Interrupted(NotebookClient):
    """A client that interrupts the kernel once in each cell, after the first epoch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.interrupted_cells = []

    def process_message(self, msg, cell, cell_index):
        text = str(msg["content"].get("data", {}).get("text/plain", ""))
        if re.search(r"epochs [1-9]", text) and cell_index not in self.interrupted_cells:
            self.interrupted_cells.append(cell_index)
            os.killpg(self.km.provisioner.pgid, signal.SIGINT)  # as Jupyter does
        return super().process_message(msg, cell, cell_index)


def test_an_interrupted_cell_saves_its_progress_and_resumes_when_run_again(store, own_folder):
    """With two workers in a kernel, the sweep prints how to resume, without a traceback, and resumes."""
    cells = [nbformat.v4.new_code_cell(LONG), nbformat.v4.new_code_cell(LONG)]
    resources = {"metadata": {"path": str(own_folder)}}
    client = Interrupted(
        nbformat.v4.new_notebook(cells=cells), timeout=100, allow_errors=True, resources=resources
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(FOLDER.parent)})
    assert client.interrupted_cells == [0, 1]
    message = "interrupted, and what was trained is saved; run the same sweep again to resume"
    for cell in cells:
        assert cell.outputs[-1].ename == "InterruptedSweepError"
        assert cell.outputs[-1].traceback == [f"InterruptedSweepError: {message}"]
    assert "resuming 4 trials from the last checkpoint" in "".join(
        o.get("text", "") for o in cells[1].outputs
    )
    assert set(fnnexp.runs("init_grid")["status"]) == {"interrupted"}
    epochs = fnnexp.curves("init_grid").groupby(["trial", "metric"], observed=True)["epoch"]
    assert (epochs.agg(list).map(lambda values: values == list(range(1, len(values) + 1)))).all()


def test_a_failing_cell_fails_the_notebook(own_folder):
    file = own_folder / "broken.ipynb"
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(file, own_folder)
