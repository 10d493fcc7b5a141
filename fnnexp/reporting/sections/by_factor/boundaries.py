"""What the networks of two-dimensional data predict in the plane, with a panel for each configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.data.datasets import IMAGES
from fnnexp.data.toys import TOYS
from fnnexp.errors import FnnexpError, plural
from fnnexp.reporting.document.blocks import Section, Text
from fnnexp.reporting.document.wording import value
from fnnexp.reporting.plots import picture
from fnnexp.reporting.plots.rows.regions import boundaries
from fnnexp.results import comparisons
from fnnexp.results.networks.regions import Regions, regions
from fnnexp.results.networks.stored import Recorded, network_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fnnexp.reporting.document.blocks import Block
    from fnnexp.results.comparisons import Findings

TITLE = "Decision boundaries"

MOST_PANELS = 9
"""The largest number of configurations that are drawn."""

CAPTION = (
    "What a network of each configuration predicts in the plane, and the rows that it was trained on. The "
    "network is that of the trial with the median {metric}. A region has the colour of the predicted class, "
    "and is the stronger the surer the network is."
)


def sections(rows: pd.DataFrame, findings: Findings, uri: str | None = None) -> list[Section]:
    """Return the section with the boundaries of the best configurations; [] if no data has two inputs."""
    finished = [each for each in findings.configurations if len(each.metric)]
    panels: list[tuple[str, str, Regions]] = []
    drawn: list[dict[str, Any]] = []
    missing: list[str] = []
    elsewhere: set[Any] = set()  # checksums of data that does not have two inputs
    for name, trial in _medians(rows, findings):
        if trial.get("data_checksum") in elsewhere:
            continue
        try:
            # The NumPy engine, because importing Numba would take longer than the rest of this.
            network = network_of(replace(Recorded.of_row(trial), engine="numpy"), uri)
            if network.recipe.architecture.inputs != 2:
                elsewhere.add(trial.get("data_checksum"))
                continue
            plane = regions(network)
        except FnnexpError as error:
            if _data_name(trial) in TOYS:
                missing.append(f"{name} has no panel: {str(error).rstrip('.')}.")
            continue
        result, seed = float(trial[findings.metric]), int(trial["seed"])
        panels.append((name, f"seed {seed}: {value(result, findings.ranking)}", plane))
        drawn.append({"configuration": name, "name": trial["name"], "seed": seed, findings.metric: result})
    if not panels and not missing:
        return []
    blocks: list[Block] = []
    if len(finished) > MOST_PANELS:
        blocks.append(Text(f"The best {MOST_PANELS} of {plural(len(finished), 'configuration')} are drawn."))
    if panels:
        caption = CAPTION.format(metric=findings.metric)
        blocks.append(picture.block(boundaries(panels), "boundaries", caption))
    return [
        Section(TITLE, [*blocks, *map(Text, missing)], {"boundaries": pd.DataFrame(drawn)} if drawn else {})
    ]


def _medians(rows: pd.DataFrame, findings: Findings) -> Iterator[tuple[str, pd.Series]]:
    """Yield the name and the median trial of each of the best configurations.

    Configurations that trained on images are left out, because images never have two inputs. The median of an
    even number of trials is the worse of the two in the middle.
    """
    finished = [each for each in findings.configurations if len(each.metric)]
    for configuration in finished[:MOST_PANELS]:
        trials = comparisons.finished_trials(rows, configuration).dropna(subset=findings.metric)
        goodness = findings.ranking.goodness(trials[findings.metric])
        order = trials.assign(goodness=goodness).sort_values(["goodness", "seed"], kind="stable")
        # Images are not in the plane, so their networks need not be read to find out.
        if len(order) and _data_name(trial := order.iloc[(len(order) - 1) // 2]) not in IMAGES:
            yield configuration.name, trial


def _data_name(trial: pd.Series) -> str:
    """Return the name of a trial's data set, or "mnist" if it is unknown."""
    name = trial.get("data.name", trial.get("data"))
    return "mnist" if pd.isna(name) else str(name)
