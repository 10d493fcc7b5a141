"""Batching modes at equal cost: after as many epochs, updates and seconds, each a question of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, number, plain, points
from fnnexp.results import budgets, comparisons
from fnnexp.results.budgets import UNITS
from fnnexp.results.factors import groups
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.results.ranking import Ranking

NOTE = (
    "In each combination of the other factors all modes have one budget: the cost of the mode that was"
    " trained least. Each is taken at its last epoch that ended within it. Epochs and cost of a row are those"
    " of its better mode and of the other. Updates are steps of the optimizer. Seconds are those of one trial"
    " in its stack, as measured while the sweep ran beside other work, the same for all trials of the stack;"
    " they count its validation and test."
    " Each of the three is a question of its own: Holm p is corrected for its own pairs."
)

FORMS = {"epochs": ",.0f", "updates": ",.0f", "seconds": ".3g"}

HEAD = (
    "at equal", "better", "than", "95% interval", "ahead in", "Holm p", "epochs", "cost", "verdict",
)  # fmt: skip

TITLE = "Batching modes at equal cost"


def section(runs: pd.DataFrame, curves: pd.DataFrame, ranking: Ranking | None = None) -> Section:
    """Return the section of a frame of runs and their curves; it is empty where batching does not vary.

    It is empty too where the time to a level ranks, which is of the whole curve.
    """
    ranking = ranking or ranking_of(runs)
    if not budgets.batching_varies(runs) or ranking.is_time:
        return Section(TITLE, [])
    cuts = {unit: budgets.cut_at_equal_cost(runs, curves, unit) for unit in UNITS}
    pairs = {unit: _pairs(cut.runs, ranking) for unit, cut in cuts.items()}
    rows = [row for unit in UNITS for row in _rows(unit, cuts[unit].runs, pairs[unit], ranking)]
    sentences = [
        _an_epoch(cuts["updates"].costs),
        *(_verdicts(unit, each, ranking) for unit, each in pairs.items() if len(each)),
        *(text for unit, cut in cuts.items() for text in budgets.omitted_modes(cut.costs, unit)),
    ]
    blocks: list[Block] = [Text(sentence) for sentence in sentences if sentence]
    if rows:
        blocks += [
            Text(NOTE, quiet=True),
            Table("", [*HEAD[:3], ranking.unit or "ahead by", *HEAD[3:]], rows, 3),
        ]
    data = {
        "equal_cost": _stacked(pairs),
        "budgets": _stacked({unit: cut.costs for unit, cut in cuts.items()}),
    }
    return Section(TITLE, blocks, data)


def _stacked(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the frames of the units below each other, the unit as the first column."""
    return pd.concat(frames, names=["at_equal"]).reset_index("at_equal")


def _pairs(cut: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return every two batching modes compared, of those that have a seed and a cell in common."""
    pairs = comparisons.of_options(cut, ranking)
    mine = pairs[(pairs["factor"] == "batching") & (pairs["seeds"] > 0)]
    return mine.drop(columns="factor").reset_index(drop=True)


def _an_epoch(costs: pd.DataFrame) -> str:
    """Return how many updates an epoch of each mode is, where that is known."""
    known = costs.dropna(subset="cost").groupby("batching", observed=True)["cost"]
    parts = [f"{_range(cost)} with {option}" for option, cost in known]
    return f"Updates in an epoch: {', '.join(parts)}." if parts else ""


def _verdicts(unit: str, pairs: pd.DataFrame, ranking: Ranking) -> str:
    """Return which mode leads at equal cost, and which of the others it is better than."""
    leading = set(pairs["a"]).difference(pairs["b"])
    mine = pairs[pairs["a"].isin(leading)]
    if len(leading) != 1 or (mine["difference"] == 0).any():
        return f"At equal {unit} no batching mode is ahead of all others."
    words = {"better": "better than", "equivalent": "as good as", "open": "not told apart from"}
    texts = [
        f"{words[verdict]} {', '.join(_ahead(pair, ranking) for pair in part.to_dict('records'))}"
        for verdict in words
        if len(part := mine[mine["verdict"] == verdict])
    ]
    return f"At equal {unit} {leading.pop()} leads: it is {'; '.join(texts)}."


def _ahead(pair: dict[Hashable, Any], ranking: Ranking) -> str:
    """Return the other mode of a pair, and by how much it is behind."""
    known = (
        f"95% interval {between(pair['low'], pair['high'], ranking)}" if pair["seeds"] > 1 else "in one seed"
    )
    return f"{pair['b']} (by {points(pair['difference'], ranking)}, {known})"


def _rows(unit: str, cut: pd.DataFrame, pairs: pd.DataFrame, ranking: Ranking) -> Iterable[list[Cell]]:
    """Yield a row a pair, with the epochs and the cost of its two modes in the cells that have both."""
    done = comparisons.levels(cut)[cut["status"] == "finished"].join(cut[["epoch", "spent"]])
    names = [name for name in done.columns if name not in ("batching", "epoch", "spent")]
    cells = [cell for _, cell in groups(done, names)]
    for pair in pairs.to_dict("records"):
        modes = [pair["a"], pair["b"]]
        shared = pd.concat([cell for cell in cells if set(modes) <= set(cell["batching"])])
        two = [shared[shared["batching"] == mode] for mode in modes]
        yield [
            *(Cell(text) for text in (unit, *modes)),
            Cell(plain(pair["difference"], ranking), pair["difference"]),
            Cell(between(pair["low"], pair["high"], ranking)),
            Cell(f"{pair['ahead']} of {pair['seeds']}", float(pair["ahead"])),
            Cell(number(pair["p_corrected"], ".3g"), pair["p_corrected"]),
            Cell(" and ".join(_range(trials["epoch"]) for trials in two)),
            Cell(" and ".join(_range(trials["spent"], FORMS[unit]) for trials in two)),
            Cell(pair["verdict"]),
        ]


def _range(values: pd.Series, form: str = ",.0f") -> str:
    """Return the least and the greatest of some numbers, as one where they are the same.

    >>> _range(pd.Series([1234, 1234])), _range(pd.Series([0.25, 0.5]), ".3g")
    ('1,234', '0.25–0.5')
    """
    return "–".join(dict.fromkeys(f"{each:{form}}" for each in (values.min(), values.max())))
