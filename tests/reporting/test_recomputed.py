"""Compare the numbers of reports with those that `recompute.py` computes from their `runs.csv`."""

import math
import re
import sys
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import recompute
from recorded import recorded
from statsmodels.stats.multitest import multipletests

from fnnexp.reporting import write
from fnnexp.reporting.document.blocks import Section
from fnnexp.reporting.plots import picture
from fnnexp.results import frames
from fnnexp.results.arguments import restore_types

MINI, FULL, ONE_STEP = map(recorded, ("card_grid_mini", "card_grid_full", "one_step"))
TWO_MODES = recorded("card_grid_mini", "card_grid_full").query("arch != 'tanh_128'")


def seen(trials, looks):
    """Return trials with the report that saw each seed first."""
    return restore_types(trials.assign(look=trials["seed"].map(looks)), "runs")


def alike(trials, arch, batching, *images):
    """Return trials in which `max` is behind `he` by a number of images per seed, in one combination."""
    cell, changed = (trials["arch"] == arch) & (trials["batching"] == batching), trials.copy()
    for seed, behind in enumerate(images):
        with_seed = cell & (trials["seed"] == seed)
        accuracy = trials.loc[with_seed & (trials["init"] == "he"), "val_accuracy"].item()
        changed.loc[with_seed & (trials["init"] == "max"), "val_accuracy"] = accuracy - behind / 5000
    return changed


def at_three_rates(trials):
    """Return trials of six seeds relabelled as two seeds at three learning rates."""
    rates = (trials["seed"] // 2).map({0: 0.05, 1: 0.1, 2: 0.2})
    return trials.assign(seed=trials["seed"] % 2, **{"optimizer.lr": rates})


SIGMOID = FULL[(FULL["arch"] == "sigmoid_32_32") & (FULL["seed"] < 4)]
TWICE, THRICE = {0: 1, 1: 1, 2: 1, 3: 1}, {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
LEVEL, NEAR, NEARER = (5, 5, 5, 5, 5, 5), (3, -2, 1, 0, -1, 2), (1, 0, -1, 1, 0, 0)

REPORTS = {
    "mini-batches": (
        alike(alike(MINI, "relu_100", "mini", *NEAR), "tanh_128", "mini", *NEARER),
        ["arch", "init"],
    ),
    "two batching modes at the third look": (
        seen(alike(alike(TWO_MODES, "relu_100", "mini", *LEVEL), "relu_100", "full", *NEAR), THRICE),
        ["arch", "init", "batching"],
    ),
    "failures, some at a second look": (
        pd.concat([ONE_STEP[ONE_STEP["init"] == "max"], seen(ONE_STEP[ONE_STEP["init"] != "max"], TWICE)]),
        ["init"],
    ),
    "the same difference in four seeds": (alike(SIGMOID, "sigmoid_32_32", "full", *LEVEL[:4]), ["init"]),
    "one seed": (recorded("lr_grid"), ["init", "optimizer.lr"]),
    "two seeds at three rates": (
        at_three_rates(MINI[MINI["arch"] != "tanh_128"]),
        ["arch", "init", "optimizer.lr"],
    ),
}
"""The trials of each report, some of them changed to test a rule, and the factors that vary."""

NOT_CHECKED = ("curves", "equal_cost", "layers", "mistakes", "numeric_factors", "troubles")
"""The modules of the sections that are not recomputed here."""

HEADS = {
    "points": "difference", "ahead in": "ahead", "P(better)": "probability", "p": "p", "signs": "p_sign_flip",
    "pairs": "family", "Holm p": "p_corrected", "seeds needed": "seeds_needed", "verdict": "verdict",
}  # fmt: skip
"""The columns of the recomputed pairs, by the heads of the displayed tables."""

NAMES = {"better": "a", "than": "b", "against": "b", "best init": "a", "next best": "b"}
MARKS = {"t": "", "shared t": "", "sign flip": "±", "safe t": "*", "safe signs": "±*"}
IN_PERCENT = ("difference", "low", "high")


@pytest.fixture(scope="module", params=REPORTS, ids=lambda name: name.replace(" ", "-"))
def report(request, tmp_path_factory):
    """Return the folder and figure of a report, its trials as read from there, and the recomputed tables."""
    trials, factors = REPORTS[request.param]
    drawn, no_section = {}, lambda *_: Section("Not checked", [])
    none = dict.fromkeys(("sections", "wider_ranges"), lambda *_, **__: [])
    nothing = SimpleNamespace(section=no_section, against_time=no_section, **none)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "svg", lambda figure, label: drawn.update({label: figure}) or "<svg></svg>")
        patch.setattr(picture, "png", lambda figure: b"")
        for name in NOT_CHECKED:
            patch.setattr(write, name, nothing)
        curves = pd.DataFrame(columns=["trial", "epoch", "metric", "value"])
        diagnostics = pd.DataFrame(columns=["trial", "epoch", "layer", "quantity", "value"])
        whole = frames.ExperimentFrames(trials, curves, diagnostics)
        folder = tmp_path_factory.mktemp("report")
        write.write_files(write.make("recorded", [], whole, None), folder, "report")
    runs = recompute.read(folder / "runs.csv", factors)
    text = (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    asked, options_of = runs, factors
    if "optimizer.lr" in factors:
        asked = recompute.at_best(runs, factors, ["optimizer.lr"])
        options_of = [factor for factor in factors if factor != "optimizer.lr"]
    options = list(recompute.options(asked, options_of))
    return SimpleNamespace(
        name=request.param,
        folder=folder,
        answer=next(drawn[label] for label in drawn if label.startswith("Difference of each configuration")),
        runs=runs,
        factors=factors,
        asked=asked,
        options_of=options_of,
        text=text.replace("−", "-"),
        options=pd.concat(options, ignore_index=True),
        cells=pd.concat([pd.DataFrame(), *recompute.cells(asked, options_of)], ignore_index=True),
        leader=recompute.leader(asked, options_of),
        board=recompute.board(runs, factors),
    )


def read(report, name):
    """Return a table from the files of the report, with options as text."""
    return recompute.as_names(pd.read_csv(report.folder / f"{name}.csv"), report.factors)


def near(value):
    return pytest.approx(value, rel=1e-6, abs=1e-15, nan_ok=True)


def test_the_recomputation_does_not_import_fnnexp():
    imports = re.findall(r"^(?:from|import) (\w+)", Path(recompute.__file__).read_text("utf-8"), flags=re.M)
    assert set(imports) <= {*sys.stdlib_module_names, "numpy", "pandas", "scipy", "statsmodels"}


def test_holm_by_definition_agrees_with_statsmodels():
    p = pd.Series([0.02, 0.01, 0.9, 0.02, 0.0167])
    assert recompute.holm(p) == near(multipletests(p, method="holm")[1])


@pytest.mark.parametrize("name", ["options", "cells", "leader"])
def test_the_pairs_agree_with_the_recomputation(report, name):
    printed, truth = read(report, name), getattr(report, name)
    assert len(printed) == len(truth)
    keys = [key for key in ("factor", *report.factors, "a", "b") if key in truth]
    if truth.empty:
        return
    printed, truth = (table.set_index(keys).sort_index() for table in (printed, truth))
    assert printed.index.tolist() == truth.index.tolist()
    for column in ("test", "verdict"):
        assert printed[column].tolist() == truth[column].tolist()
    for column in (
        "seeds", "looks", "difference", "ahead", "probability", "failed", "p", "p_sign_flip", "family",
        "p_corrected", "p_equivalent", "seeds_needed",
    ):  # fmt: skip
        assert printed[column].tolist() == near(truth[column].tolist()), column
    student = printed["interval"] != "bca"
    for column in ("low", "high"):
        assert printed.loc[student, column].tolist() == near(truth.loc[student, column].tolist())
    assert set(printed.loc[~student, "test"]) <= {"sign flip", "safe signs"}


def test_intervals_of_sign_flip_pairs_agree_with_the_recomputation(report):
    """Pairs of a sign-flip test have a bootstrap interval instead of Student's."""
    printed = read(report, "options").query("test in ('sign flip', 'safe signs')")
    accuracies = report.runs.pivot_table("val_accuracy", "seed", "init")
    for row in printed.to_dict("records"):
        a, b = (row[side].partition(" = ")[0] for side in "ab")
        for end, (least, most) in zip(
            ("low", "high"), recompute.bca(accuracies[a] - accuracies[b]), strict=True
        ):
            assert least - 1e-9 <= row[end] <= most + 1e-9
    assert len(printed) == report.name.startswith("failures")


def test_the_leaderboard_agrees_with_the_recomputation(report):
    printed = read(report, "leaderboard")
    assert printed["val_accuracy"].is_monotonic_decreasing
    assert printed["test_accuracy"].notna().tolist() == [True] + [False] * (len(printed) - 1)
    assert len(printed) == len(report.board)
    columns = ["seeds", "val_accuracy", "val_accuracy_sd"]
    for i, row in enumerate(printed.to_dict("records")):
        mine = (report.board[report.factors] == pd.Series(row)[report.factors]).all(axis=1)
        truth = report.board[mine].iloc[0]
        for column in columns if i else [*columns, "test_accuracy", "test_accuracy_sd"]:
            assert row[column] == near(truth[column])
        if row["seeds"] < 6 and not np.ptp(truth["values"]):
            assert row["interval"] == "none"
            assert math.isnan(row["low"])
            continue
        assert row["interval"] == ("bca" if row["seeds"] >= 6 else "t")
        for end, (least, most) in zip(("low", "high"), recompute.bounds(truth["values"]), strict=True):
            assert least - 1e-9 <= row[end] <= most + 1e-9


def test_the_shares_of_variance_agree_with_the_recomputation(report):
    printed = read(report, "shares").set_index("effect")["share"].to_dict()
    truth = recompute.shares(report.runs, report.factors)
    if report.name == "one seed":
        assert truth.pop("seed") == pytest.approx(0)
    assert printed == pytest.approx(truth, rel=1e-6, abs=1e-12)


def test_the_table_agrees_with_the_recomputation(report):
    printed = read(report, "table")
    modes = [column for column in printed.columns if column in ("full", "mini")]
    shown = 0
    for row in printed.to_dict("records"):
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
    """Return whether a text is this number, rounded to the digits of the text."""
    if text == "–":
        return math.isnan(value)
    mantissa, _, power = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10.0 ** (int(power or 0) - digits) * (1 + 1e-6)


def tables(text):
    """Return the tables of a Markdown text as lists of {head: cell}."""
    for block in re.findall(r"(?:^\|.*\|\n?)+", text, flags=re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines())
        yield [dict(zip(head, row, strict=True)) for row in rows]


def test_the_displayed_tables_of_pairs_agree_with_the_recomputation(report):
    shown = [table for table in tables(report.text) if "Holm p" in table[0]]
    truths = [each for each in (report.cells, report.options, report.leader) if len(each)]
    assert [len(table) for table in shown] == [len(truth) for truth in truths]
    for table, truth in zip(shown, truths, strict=True):
        heads = [*table[0]]
        assert heads[heads.index("points") + 1] == "verdict"  # in sight even if the page cuts a wide table
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
            text, mark = re.fullmatch(r"([^±*]*)([±*]*)", row[head]).groups()
            assert mark == (MARKS[truth["test"]] if column == "p" else "")
            assert is_shown(text, (100 if column in IN_PERCENT else 1) * truth[column]), head
    if truth["test"] in ("t", "shared t", "safe t"):
        ends = row["95% interval"].split(" to ") if row["95% interval"] != "–" else ["–", "–"]
        assert all(is_shown(end, 100 * truth[side]) for end, side in zip(ends, ("low", "high"), strict=True))


def test_every_number_in_the_sentences_agrees_with_the_recomputation(report):
    """The answer has no number besides the recomputed numbers."""
    answer = report.text.partition("## The answer")[2].partition("\n## ")[0]
    for pattern, truths in sentences(report).items():
        for match in re.finditer(pattern, answer):
            assert any(all(map(agrees, match.groups(), truth)) for truth in truths), (match[0], truths)
        answer = re.sub(pattern, "…", answer)
    names = {*report.leader["a"], *report.leader["b"], *report.runs["arch"]}
    for name in sorted(names, key=len, reverse=True):
        answer = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", answer)
    assert not re.search(r"\d", answer), answer


def agrees(text, value):
    """Return whether a text is this text or this number, rounded; a missing number is NaN."""
    if isinstance(value, str):
        return text == value
    return math.isnan(value) if text is None else is_shown(text.replace(",", ""), value)


def fewest(pairs):
    """Return how many differences of one sign settle one of so many pairs: (n + 1)/2ⁿ is at most 5%."""
    return next(n for n in range(1, 100) if pairs * (n + 1) / 2**n <= 0.05)


def sentences(report):
    """Return {pattern of a sentence in the answer: possible values of its groups}."""
    runs, best = report.runs, report.board.loc[report.board["val_accuracy"].idxmax()]
    own = read(report, "leaderboard").iloc[0]
    seeds = int(own["seeds"])
    several = seeds if seeds > 1 else math.nan
    pairs, leader = report.leader.set_index("b"), report.leader["a"][0]
    ends = read(report, "leader").set_index("b")[["low", "high"]].loc[pairs.index]
    leads = pairs[["difference", "ahead", "seeds_needed", "verdict", "p_corrected", "family"]].assign(
        low=ends["low"], high=ends["high"]
    )
    better, same = ((pairs["verdict"] == verdict).sum() for verdict in ("better", "equivalent"))
    failed = recompute.failures(report.asked, report.options_of)
    wins = winners(report.cells, [name for name, *count in failed if len({*count}) == 1])
    errors = [
        (100 * recompute.image_error(best[metric], images), images, name)
        for metric, images, name in (("val_accuracy", 5000, "validation"), ("test_accuracy", 10_000, "test"))
    ]
    gap = best["val_accuracy"] - best["test_accuracy"]
    leads_of_factors, wins_of_factors, options_of_factors = of_factors(report)
    return {
        r"\(([^()]+) is (\S+) points ahead of ([^,]+), 95% interval (\S+) to ([^\s,)]+)"
        r"(?:, but p = (\S+)(?: by a sign-flip test)?(?: after correction for (\d+) pairs)?)?\)": [
            *((best_option, *lead[:-1]) for best_option, *lead in leads_of_factors),
            *((leader, 100 * lead.difference, lead.Index, 100 * lead.low, 100 * lead.high, *correction(lead))
              for lead in leads.itertuples()),
        ],
        r"(\d\S+) points ahead of (.+?)(?: \((?:95% interval (\S+) to ([^\s,;]+)"
        r"(?:, but p = (\S+)(?: by a sign-flip test)?(?: after correction for (\d+) pairs)?)?; )?"
        r"ahead in (\d+) of (\d+) seeds\))?(?:; about (\d+) seeds would settle it)?\.\s": [
            (100 * lead.difference, lead.Index, 100 * lead.low, 100 * lead.high,
             *correction(lead), lead.ahead if seeds > 1 else math.nan, several, lead.seeds_needed)
            for lead in leads.itertuples()
        ] + [(*lead, ahead, seeds, math.nan) for _, *lead, ahead in leads_of_factors],
        r"([^…\s]+(?: = \S+)?) has the best mean in (\w+) of (\d+) combinations": wins_of_factors,
        r"(\d+) of (\d+) configurations did not learn": [
            (sum(each[1] == each[2] for each in failed), len(failed))
        ],
        r"below (\d+)%, twice": [(20,)],
        r"(?:: |, | and )([^:,()]+) \((\d+) of (\d+) seeds\)": failed,
        r"best of (\d+) (?:initializers|architectures|batching modes)": [
            (count,) for count in (len(pairs) + 1, *options_of_factors)
        ],
        r"\b(?:of|[Tt]he) (\d+) (?:initializers|configurations)\b": [(len(pairs) + 1,)],
        r"cannot be told apart by (\d+) seeds: .*?, at least (\d+) are needed": [
            (seeds, fewest(math.comb(count, 2)))
            for count in (len(pairs) + 1, report.runs["init"].nunique() - 1)
        ],
        r"the other (\d+) are worse": [(better,)],
        r"(\S+(?: = \S+)?) is the best initializer in each of the (\d+) \w+.*?; "
        r"its lead is significant in (\w+)\.": wins[:1],
        r"in each of (\d+) (?:architectures|combinations)": [(len(report.cells),)],
        r"[,:] ([^,:;]+?) in (\d+)(?=[,;.])": wins[1:],
        r"(?: is |; |, | and )(\d\S*) for ([^;]+?)(?=;|\.\s|,? and \d|, \d)": best_rates(report),
        r" and (\d+) more\b": [(len(failed) - 3,)],
        r"looked at these seeds (\d+) times": [
            (max(each["looks"].max() for each in (pairs, report.options, report.cells) if len(each)),)
        ],
        r", (\d+) at most\.": [(seeds,)],
        r"(.+) (?:leads with|has) (\S+)% val_accuracy(?: \(95% interval (\S+) to (\S+) over (\d+) seeds)?": [
            (leader, 100 * best["val_accuracy"], 100 * own["low"], 100 * own["high"], several)
        ],
        r"it has (\S+)%\.": [(100 * best["test_accuracy"],)],
        r"(\S+) points for (\S+) (validation|test) images": errors,
        r"(\S+) points (above|below) test accuracy, but .* only (\S+) points \(95%\)": [
            (100 * abs(gap), "above" if gap > 0 else "below", 1.96 * math.hypot(errors[0][0], errors[1][0]))
        ],
        r"standard deviation over seeds is (\S+) points": [(100 * best["val_accuracy_sd"],)],
        r"After correction for (\d+) pairs of \w+, (.+) is better than (\d+) of (\d+) others"
        r"(?:, and equivalent to (\d+))?": [
            (pairs["family"].iloc[0], leader, better, len(pairs), same or math.nan)
        ],
        r"within ±(\S+) points": [(100 * recompute.MARGIN,)],
        r"(?:: |, )([^:,%]+) (\d+\.\d)%": [
            (effect, 100 * share) for effect, share in recompute.shares(report.runs, report.factors).items()
        ],
        r"Over (\d+) seeds? that": [(seeds,)],
        r"its 95% interval": [()],
        r"All trained for (\d+) epochs? at optimizer\.lr=(.+); other rates may change the answer\.": [
            (runs["epochs"].iloc[0], shared_rates(runs))
        ],
    }  # fmt: skip


def shared_rates(runs):
    """Return the learning rate of these trials, or that of each batching mode."""
    rates = dict(sorted(zip(runs["batching"], runs["optimizer.lr"], strict=True)))
    by_mode = [f"{float(rate):g} ({mode})" for mode, rate in rates.items()]
    return " and ".join(by_mode) if len({*rates.values()}) > 1 else f"{float(runs['optimizer.lr'].iloc[0]):g}"


def of_factors(report):
    """Return the leads of the best option of each factor, the combinations in which it wins, and the counts.

    A lead has the best option, and the groups of the pattern of a lead, up to the seeds that are ahead.
    """
    rows = recompute.joined(report.asked, report.options_of)
    leads, wins, counts = [], [], []
    for factor in report.options_of if len(report.options_of) > 1 else []:
        means = rows.groupby(factor)["val_accuracy"].mean()
        printed = read(report, "options").query("factor == @factor and a == @means.idxmax()")
        for lead in printed.itertuples():
            numbers = (100 * each for each in (lead.difference, lead.low, lead.high))
            difference, low, high = numbers
            leads.append((lead.a, difference, lead.b, low, high, *correction(lead), lead.ahead))
        others = [name for name in report.options_of if name != factor]
        cells = rows.pivot_table("val_accuracy", others, factor)
        won = int((cells.idxmax(axis=1) == means.idxmax()).sum())
        wins.append((means.idxmax(), "each" if won == len(cells) else str(won), len(cells)))
        counts.append(len(means))
    return leads, wins, counts


def correction(lead):
    """Return p and the number of pairs if a pair is open although its own interval excludes 0, else NaN."""
    if lead.verdict != "open" or not (lead.low > 0 or lead.high < 0):
        return math.nan, math.nan
    return lead.p_corrected, lead.family if lead.family > 1 else math.nan


def winners(cells, lost):
    """Return the first winner with the numbers of cells and of significant leads, then all winners.

    Cells are ignored if their winner is among the `lost` configurations, which learned in no seed.
    """
    if not len(cells):
        return []
    names = (
        cells[[*cells.columns.intersection(["arch", "batching"]), "a"]].astype("str").agg(" ".join, axis=1)
    )
    learned = [sorted(name.split()) not in [sorted(each.split()) for each in lost] for name in names]
    cells = cells[learned] if any(learned) else cells
    significant = cells[cells["verdict"] == "better"]["a"].value_counts()
    words = {0: "none", len(cells): "each"}
    first = (cells["a"].iloc[0], len(cells), words.get(int(significant.sum()), str(significant.sum())))
    return [first, *cells["a"].value_counts().items(), *significant.items()]


def best_rates(report):
    """Return each best learning rate with the list of its configurations, in any order, if rates vary."""
    if report.asked is report.runs:
        return []
    rows = recompute.joined(report.asked, report.options_of)
    names_at = {}
    for rate, name in zip(rows["optimizer.lr"], recompute.named(rows, report.options_of), strict=True):
        names_at.setdefault(float(rate), {})[name] = None
    orders = ((rate, ", ".join(order)) for rate, names in names_at.items() for order in permutations(names))
    return [(rate, " and ".join(names.rsplit(", ", 1))) for rate, names in orders]


def test_the_figure_of_the_answer_agrees_with_the_recomputation(report):
    """It shows the rows of leader.csv in percentage points, and the difference of each seed.

    Configurations that learned in no seed are at the edge, with their difference, if others learned.
    """
    (ax,) = report.answer.axes
    lost = [
        name for name, *seeds in recompute.failures(report.asked, report.options_of) if len({*seeds}) == 1
    ]
    pairs, seeds = read(report, "leader"), report.leader.set_index("b")["d"]
    learned = pairs[~pairs["b"].isin(lost)].reset_index(drop=True)
    failed = pairs[pairs["b"].isin(lost)] if len(learned) else pairs[:0]
    pairs = (learned if len(learned) else pairs).head(12)
    at_edge = failed.head(max(12 - len(pairs), 3))
    names = [pairs["a"][0], *pairs["b"], *at_edge["b"]]
    assert [label.get_text() for label in ax.get_yticklabels()][: len(names)] == names
    written = [text.get_text().replace("−", "-").split(" ")[0] for text in ax.texts]
    assert [*map(float, written[: len(at_edge)])] == pytest.approx(
        [*(-100 * at_edge["difference"])], abs=0.006
    )
    left, right = ax.get_xlim()
    for y, row in enumerate(pairs.to_dict("records"), start=1):
        lines = [line.get_xdata() for line in ax.get_lines() if round(line.get_ydata()[0]) == y]
        strokes, ends, mean = (list(map(float, line)) for line in lines)
        assert sorted(strokes) == near(sorted(-100 * seeds[row["b"]]))
        assert ends == near([-100 * row["low"], -100 * row["high"]])
        assert mean == near([-100 * row["difference"]])
        assert left < min(mean + strokes) <= max(mean + strokes) < right
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == near((-0.2, 0.2))
