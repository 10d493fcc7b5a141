"""Tuned comparisons: what was chosen for each option, how the tuned options compare, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.config.grids.tuned import TUNING_SEEDS
from fnnexp.errors import plural
from fnnexp.reporting import tuned
from fnnexp.reporting.document.blocks import EVERYWHERE, Cell, Section, Table, Text
from fnnexp.reporting.document.wording import between, mean_and_spread, number, plain
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.curves import best_found
from fnnexp.reporting.tuned import CONTENDERS
from fnnexp.results import statistics
from fnnexp.results.factors import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.reporting.tuned import Comparison
    from fnnexp.results.ranking import Ranking

TITLE = "Each option tuned"

NOTE = (
    "Every option was trained with the same drawn configurations and the tuning seeds. Its best configuration"
    " was trained with fresh seeds, which chose nothing; only these are compared, paired by seed. An option"
    " is better only if it also beats the other good configurations of the other option, the best"
    f" {CONTENDERS} in tuning: otherwise bad luck in tuning may explain the difference. Holm p is corrected"
    " for all pairs of options, as under 'Pairs'. Check: passed if the largest p of the tests against these,"
    " also corrected, is at most 5%. All results are of the same held-out rows, by which the configurations"
    " were chosen too: the means are slightly optimistic, all in the same way."
)

CAPTION = (
    "The best mean over the tuning seeds that is expected after so many tuning trials, over all orders of the"
    " drawn configurations. A line that still rises at its end says that more trials may find better values."
)


def section(comparisons: Sequence[Comparison], ranking: Ranking, omitted: int = 0) -> Section:
    """Return the section about the tuned comparisons of an experiment; it is empty if there are none.

    Their answers in sentences are not in it, but in the section before it, the answer of the report.

    `omitted` is the number of other trials that the report leaves out, because tuning tried their values but
    no option chose them.
    """
    blocks: list[Block] = []
    data: dict[str, list[pd.DataFrame]] = {"tuned": [], "tuning": [], "tuning_curve": []}
    for i, comparison in enumerate(comparisons, start=1):
        pairs, curve = tuned.pairs(comparison), tuned.best_found(comparison)
        name = tuned.name_of(comparison)
        heading = name if len(comparisons) > 1 else ""
        if heading:
            blocks.append(Text(heading))  # in a terminal, the answer says enough
        blocks.append(Text(_cost(comparison)))
        blocks += [_chosen(comparison), *_pairs(pairs, ranking)]
        blocks.append(Text(NOTE, quiet=True, under="How options are tuned and compared"))
        if len(curve):
            compared = comparison.asked.compare
            figure = best_found(curve, ranking.metric, compared[0] if len(compared) == 1 else "")
            place = i if len(comparisons) > 1 else None
            blocks.append(picture.block(figure, "tuning_curve", CAPTION, heading, number=place))
        for file, frame in (("tuned", pairs), ("tuning", _draws(comparison)), ("tuning_curve", curve)):
            data[file].append(frame.assign(comparison=name))
    if omitted:
        blocks.append(
            Text(
                f"This report leaves out {plural(omitted, 'other trial')} of values that tuning tried but no "
                "option chose; fnnexp.runs() has them.",
                EVERYWHERE,
            )
        )
    joined = {name: pd.concat(frames, ignore_index=True) for name, frames in data.items() if frames}
    return Section(TITLE, blocks, joined)


def _cost(comparison: Comparison) -> str:
    """Return a sentence on the trials and epochs that tuning and the comparison took."""
    trials = [sum(map(len, level.draws["trials"])) for level in comparison.levels]
    epochs = [int(level.draws["epochs_trained"].sum()) for level in comparison.levels]
    own = sum(len(comparison.own(level)) for level in range(len(comparison.levels)))
    seeds = " and ".join(map(str, TUNING_SEEDS))
    return (
        f"Tuning cost {_range(trials)} trials and {_range(epochs)} epochs for each of the "
        f"{len(comparison.levels)} options (with the seeds {seeds}), {sum(trials):,} trials and "
        f"{sum(epochs):,} epochs in all; the comparison took {own:,} trials more, and its checks "
        f"{len(comparison.rows) - own:,}."
    )


def _range(values: Sequence[int]) -> str:
    return "–".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values))))


def _chosen(comparison: Comparison) -> Table:
    """Return the table of what each option chose, what that cost, and its results, the best first."""
    ranking, keys, rows = comparison.ranking, comparison.keys, []
    for i, level in enumerate(comparison.levels):
        own = comparison.own(i)
        values = own.loc[own["status"] == "finished", ranking.metric].dropna().to_numpy(float)
        mean = statistics.mean(values)
        tuning = float("nan") if level.chosen is None else float(level.draws["mean"].iloc[level.chosen])
        chosen = [Cell(as_text(value)) for value in comparison.values(i).values()]
        trials = sum(map(len, level.draws["trials"]))
        rows.append([
            Cell(level.name),
            *(chosen or [Cell("–")] * len(keys)),
            Cell(tuned.marks(level, keys)),
            Cell(f"{trials:,}", trials),
            Cell(f"{level.draws['epochs_trained'].sum():,}", float(level.draws["epochs_trained"].sum())),
            Cell(str(level.draws["diverged"].sum()), float(level.draws["diverged"].sum())),
            Cell(plain(tuning, ranking), tuning),
            Cell(mean_and_spread(mean, statistics.standard_deviation(values), ranking), mean),
            Cell(str(len(values)), float(len(values))),
        ])  # fmt: skip
    rows.sort(key=lambda row: _goodness(row[-2].value, ranking), reverse=True)
    head = [
        comparison.factors, *keys, "note", "tuning trials", "tuning epochs", "diverged",
        f"{ranking.metric} in tuning", f"{ranking.metric}, fresh seeds", "seeds",
    ]  # fmt: skip
    table = Table("", head, rows, 1, media=EVERYWHERE, wide=("note", "tuning epochs", "diverged"))
    noted = any(row[head.index("note")].text for row in rows)
    return table if noted else table.without("note")


def _goodness(mean: float | None, ranking: Ranking) -> float:
    """Return a number by which to sort means: the larger, the better. A missing mean is the worst."""
    value = ranking.goodness(pd.Series([mean], dtype="float64")).iloc[0]
    return float("-inf") if pd.isna(value) else float(value)


def _pairs(pairs: pd.DataFrame, ranking: Ranking) -> list[Table]:
    if pairs.empty:
        return []
    rows = [
        [
            Cell(row["a"]),
            Cell(row["b"]),
            Cell(plain(row["difference"], ranking), row["difference"]),
            Cell(between(row["low"], row["high"], ranking)),
            Cell(f"{row['ahead']} of {row['seeds']}", float(row["ahead"])),
            Cell(number(row["p_corrected"], ".3g"), row["p_corrected"]),
            Cell(row["check"] or "–"),
            Cell(row["verdict"]),
        ]
        for row in pairs.to_dict("records")
    ]
    unit = ranking.unit or "ahead by"
    head = ["better", "than", unit, "95% interval", "ahead in", "Holm p", "check", "verdict"]
    return [Table("", head, rows, 2)]


def _draws(comparison: Comparison) -> pd.DataFrame:
    """Return all draws (values that tuning tried) of each option, with their means over the tuning seeds."""
    parts = [
        level.draws.assign(
            level=level.name,
            trials=level.draws["trials"].map(len),
            chosen=[row == level.chosen for row in range(len(level.draws))],
        )
        for level in comparison.levels
    ]
    frame = pd.concat(parts, ignore_index=True)
    columns = ["level", *comparison.keys, "trials", "epochs_trained", "diverged", "mean", "chosen"]
    return frame[columns].rename(columns={"mean": f"mean_{comparison.ranking.metric}"})
