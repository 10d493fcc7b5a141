"""The examples of the public functions that need a store run against a small real one."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

import fnnexp

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
FUNCTIONS = (
    "answer", "at_equal", "best", "compare", "confusion", "curves", "diagnostics", "experiments", "load",
    "mistakes", "runs", "seconds_to", "shares",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, empty_store):
    """Return the names that the examples use: frames of a small sweep, in whose store they run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trained")
        empty_store(folder)
        patch.chdir(folder)
        options = {"arch": "relu_100", "init": ["he", "max"], "batching": ["full", "mini"], "seed": [0, 1]}
        # One epoch of mini is 10 updates, so at equal updates full needs more than 10 epochs.
        settings = {"data": "digits", "epochs": 12, "diagnostics": True, "execution.n_jobs": 1}
        runs = fnnexp.sweep("card_grid", **options, **settings)
        curves = fnnexp.curves("card_grid")
    return folder, {"fnnexp": fnnexp, "runs": runs, "curves": curves}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_of_a_public_function_run(name, trained, monkeypatch):
    folder, names = trained
    monkeypatch.chdir(folder)
    if name == "seconds_to":  # let every trial reach the level of the example
        names = names | {"curves": names["curves"].assign(value=lambda curves: 0.9 + curves["value"] / 10)}
    else:
        names = dict(names)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(fnnexp, name)))
    assert examples, f"the docstring of fnnexp.{name} has no example"
    for example in examples:
        exec(example.source, names)


def test_parameters_updates_and_gaps_are_those_of_the_networks_and_their_batches(trained, monkeypatch):
    """784-100-10 has 784·100 + 100 + 100·10 + 10 parameters; 1,200 training rows are 10 batches of 128."""
    folder, names = trained
    monkeypatch.chdir(folder)
    runs, network = names["runs"], fnnexp.load(names["runs"].iloc[0])
    assert sum(array.size for array in network.weights.values()) == 79_510
    assert set(runs["parameters"]) == {79_510}
    assert set(runs["train_images"]) == {1200}
    assert set(zip(runs["batching"], runs["updates"], strict=True)) == {("full", 12), ("mini", 120)}
    board = fnnexp.leaderboard(runs)
    for row in board.to_dict("records"):
        of_row = runs[(runs["init"] == row["init"]) & (runs["batching"] == row["batching"])]
        gaps = [a - b for a, b in zip(of_row["train_accuracy"], of_row["val_accuracy"], strict=True)]
        assert row["gap"] == pytest.approx(sum(gaps) / 2)
        assert (row["parameters"], row["updates"]) == (79_510, 12 if row["batching"] == "full" else 120)
    equal = fnnexp.at_equal(runs, names["curves"], "updates")
    assert set(equal["updates"]) <= {10, 12}


@pytest.mark.usefixtures("store", "blank_figures")
def test_the_snippets_of_the_page_on_python_run():
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(snippets) == 11
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
