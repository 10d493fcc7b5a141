"""Every figure of a report is what SciPy and statsmodels make of its `runs.csv`, see `recompute.py`."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import recompute
from recorded import recorded

from fnnexp.reporting import write
from fnnexp.reporting.document.blocks import Section
from fnnexp.reporting.plots import picture
from fnnexp.reporting.sections import mistakes
from fnnexp.results import frames

TWO_MODES = recorded("card_grid_mini", "card_grid_full")
FULL = recorded("card_grid_full")
REPORTS = {
    "mini-batches": (recorded("card_grid_mini"), ["arch", "init"]),
    "two batching modes": (TWO_MODES[TWO_MODES["arch"] != "tanh_128"], ["arch", "init", "batching"]),
    "failures": (recorded("one_step"), ["init"]),
    "ties": (FULL[FULL["arch"] == "sigmoid_32_32"], ["init"]),
    "one seed": (recorded("lr_grid"), ["init", "optimizer.lr"]),
}
"""The recorded trials of each, and what varies in them."""

HEADS = {
    "points": "difference", "ahead in": "ahead", "P(better)": "probability", "p": "p", "signs": "p_sign_flip",
    "pairs": "family", "Holm p": "p_corrected", "seeds needed": "seeds_needed", "verdict": "verdict",
}  # fmt: skip
"""The columns of the tables of pairs, by their heads."""

NAMES = {"better": "a", "than": "b", "against": "b", "best init": "a", "than the next": "b"}
IN_PERCENT = ("difference", "low", "high")


@pytest.fixture(scope="module", params=REPORTS, ids=lambda name: name.replace(" ", "-"))
def report(request, tmp_path_factory):
    """Return the folder of a report without pictures, its trials as read from there, and what varies."""
    trials, factors = REPORTS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "svg", lambda figure, label: "<svg></svg>")
        patch.setattr(picture, "png", lambda figure: b"")
        patch.setattr(mistakes, "section", lambda *_: Section("Mistakes", []))
        curves = pd.DataFrame(columns=["trial", "epoch", "metric", "value"])
        diagnostics = pd.DataFrame(columns=["trial", "epoch", "layer", "quantity", "value"])
        whole = frames.Whole(trials, curves, diagnostics)
        folder = tmp_path_factory.mktemp("report")
        write.write_files(write.make("recorded", [], whole, None), folder, "report")
    runs = recompute.read(folder / "runs.csv", factors)
    text = (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    options = list(recompute.options(runs, factors))
    return SimpleNamespace(
        name=request.param,
        folder=folder,
        runs=runs,
        factors=factors,
        text=text.replace("−", "-"),
        options=pd.concat(options, ignore_index=True),
        cells=pd.concat([pd.DataFrame(), *recompute.cells(runs, factors)], ignore_index=True),
        leader=recompute.leader(runs, factors),
        board=recompute.board(runs, factors),
    )


def read(report, name):
    """Return a table of the report's files, with options as text."""
    return recompute.as_names(pd.read_csv(report.folder / f"{name}.csv"), report.factors)


def near(value):
    return pytest.approx(value, rel=1e-6, abs=1e-15, nan_ok=True)


def test_the_recomputation_shares_nothing_with_what_it_checks():
    imports = re.findall(r"^(?:from|import) (\w+)", Path(recompute.__file__).read_text("utf-8"), flags=re.M)
    assert set(imports) == {"itertools", "math", "numpy", "pandas", "scipy", "statsmodels"}


@pytest.mark.parametrize("name", ["options", "cells", "leader"])
def test_pairs(report, name):
    found, truth = read(report, name), getattr(report, name)
    assert len(found) == len(truth)
    keys = [key for key in ("factor", *report.factors, "a", "b") if key in truth]
    if truth.empty:
        return
    found, truth = (table.set_index(keys).sort_index() for table in (found, truth))
    assert found.index.tolist() == truth.index.tolist()
    for column in ("test", "verdict"):
        assert found[column].tolist() == truth[column].tolist()
    for column in (
        "seeds", "difference", "ahead", "probability", "failed", "p", "p_sign_flip", "family", "p_corrected",
        "p_equivalent", "seeds_needed",
    ):  # fmt: skip
        assert found[column].tolist() == near(truth[column].tolist()), column
    student = found["interval"] != "bca"
    for column in ("low", "high"):
        assert found.loc[student, column].tolist() == near(truth.loc[student, column].tolist())
    assert set(found.loc[~student, "test"]) <= {"sign flip"}


def test_intervals_of_failing_pairs(report):
    """A sign flip test has no interval of Student's beside it, but one of resampled means."""
    found = read(report, "options").query("test == 'sign flip'")
    accuracies = report.runs.pivot_table("val_accuracy", "seed", "init")
    for row in found.to_dict("records"):
        a, b = (row[side].partition(" = ")[0] for side in "ab")
        for end, (least, most) in zip(
            ("low", "high"), recompute.bca(accuracies[a] - accuracies[b]), strict=True
        ):
            assert least - 1e-9 <= row[end] <= most + 1e-9
    assert len(found) == 3 * (report.name == "failures")


def test_the_leaderboard(report):
    found = read(report, "leaderboard")
    assert found["val_accuracy"].is_monotonic_decreasing
    assert found["test_accuracy"].notna().tolist() == [True] + [False] * (len(found) - 1)
    assert len(found) == len(report.board)
    columns = ["seeds", "val_accuracy", "val_accuracy_sd"]
    for i, row in enumerate(found.to_dict("records")):
        mine = (report.board[report.factors] == pd.Series(row)[report.factors]).all(axis=1)
        truth = report.board[mine].iloc[0]
        for column in columns if i else [*columns, "test_accuracy", "test_accuracy_sd"]:
            assert row[column] == near(truth[column])
        if row["seeds"] == 1:
            assert row["interval"] == "none"
            assert math.isnan(row["low"])
            continue
        assert row["interval"] == "bca"
        for end, (least, most) in zip(("low", "high"), recompute.bca(truth["values"]), strict=True):
            assert least - 1e-9 <= row[end] <= most + 1e-9


def test_the_shares_of_variance(report):
    found = read(report, "shares").set_index("effect")["share"].to_dict()
    truth = recompute.shares(report.runs, report.factors)
    if report.name == "one seed":
        assert truth.pop("seed") == pytest.approx(0)
    assert found == pytest.approx(truth, rel=1e-6, abs=1e-12)


def test_the_table(report):
    found = read(report, "table")
    modes = [column for column in found.columns if column in ("full", "mini")]
    shown = 0
    for row in found.to_dict("records"):
        for mode in modes:
            mine = report.runs[report.runs["batching"] == mode]
            for name in ("arch", "init", *report.factors):
                mine = mine[mine[name] == row[name]] if name in row else mine
            mean, _, spread = str(row[mode]).partition(" ± ")
            assert is_shown(mean, 100 * mine["val_accuracy"].mean())
            assert is_shown(spread or "–", 100 * mine["val_accuracy"].std())
            shown += 1
    assert shown == len(report.board)


def is_shown(text, value):
    """Whether a text is this number, rounded to as many digits as the text has."""
    if text == "–":
        return math.isnan(value)
    mantissa, _, power = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10.0 ** (int(power or 0) - digits) * (1 + 1e-6)


def tables(text):
    """Return the tables of a Markdown text, each as rows by the heads."""
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, flags=re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines())
        yield [dict(zip(head, row, strict=True)) for row in rows]


def test_the_tables_of_pairs_that_people_read(report):
    shown = [table for table in tables(report.text) if "Holm p" in table[0]]
    truths = [each for each in (report.cells, report.options, report.leader) if len(each)]
    assert [len(table) for table in shown] == [len(truth) for truth in truths]
    for table, truth in zip(shown, truths, strict=True):
        for row in table:
            keys = {NAMES.get(head, head): text for head, text in row.items() if head in NAMES}
            keys |= {name: row[name] for name in ("factor", *report.factors) if name in row}
            mine = truth[(truth[list(keys)] == pd.Series(keys)).all(axis=1)]
            assert len(mine) == 1
            assert_row(row, mine.iloc[0])


def assert_row(row, truth):
    for head, column in HEADS.items():
        if head not in row:
            assert head == "P(better)"
        elif column == "verdict":
            assert row[head] == truth[column]
        elif column == "seeds_needed":
            unknown = "?" if truth["verdict"] == "open" else ""
            assert row[head] == (unknown if math.isnan(truth[column]) else str(int(truth[column])))
        elif column == "ahead":
            assert row[head] == f"{truth['ahead']} of {truth['seeds']}"
        else:
            assert ("±" in row[head]) == (column == "p" and truth["test"] == "sign flip")
            value = (100 if column in IN_PERCENT else 1) * truth[column]
            assert is_shown(row[head].removesuffix("±"), value), head
    if truth["test"] == "t":
        ends = row["95% interval"].split(" to ") if row["95% interval"] != "–" else ["–", "–"]
        assert all(is_shown(end, 100 * truth[side]) for end, side in zip(ends, ("low", "high"), strict=True))


def test_the_numbers_in_the_sentences(report):
    """Whatever the words around them are, each number of the answer is one that was computed again."""
    answer = report.text.partition("## The answer")[2].partition("\n## ")[0]
    best = report.board.sort_values("val_accuracy").iloc[-1]
    pairs = pd.concat([report.leader, report.options, report.cells])
    intervals = [*zip(pairs["low"], pairs["high"], strict=True)]
    intervals += [*read(report, "leaderboard")[["low", "high"]].itertuples(index=False, name=None)]
    intervals += [*read(report, "options")[["low", "high"]].itertuples(index=False, name=None)]
    errors = [recompute.image_error(best["val_accuracy"], 5000)]
    errors += [recompute.image_error(best["test_accuracy"], 10000)]
    points = [*pairs["difference"].abs(), *errors, best["val_accuracy_sd"], recompute.MARGIN]
    percents = [*best[["val_accuracy", "test_accuracy"]], 0.95]
    percents += [*recompute.shares(report.runs, report.factors).values()]
    for low, high in re.findall(r"(-?\d+\.\d+) to (-?\d+\.\d+)", answer):
        assert any(is_shown(low, 100 * a) and is_shown(high, 100 * b) for a, b in intervals)
    for text in re.findall(r"(\d+\.\d+) points", answer):
        assert any(is_shown(text, 100 * value) for value in points), text
    for text in re.findall(r"(\d+(?:\.\d+)?)%", answer):
        assert any(is_shown(text, 100 * value) for value in percents), text
    for text in re.findall(r"about (\d+) seeds", answer):
        assert float(text) in pairs["seeds_needed"].tolist()
    for ahead, seeds in re.findall(r"in (\d+) of (\d+)(?: paired)? seeds", answer):
        assert [int(ahead), int(seeds)] in pairs[["ahead", "seeds"]].to_numpy().tolist()
    for count in re.findall(r"Corrected for (\d+) pairs", answer):
        assert int(count) in pairs["family"].tolist()
    assert re.search(r"\d+\.\d\d%", answer)
