"""Draw a range test: the losses of each configuration by learning rate, with the suggested rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from fnnexp.mapping.lr.results import RangeTest
from fnnexp.reporting.plots.layout import add_legend, columns_for, in_rows, panels
from fnnexp.reporting.plots.picture import Picture
from fnnexp.reporting.plots.style import styles

MOST_PANELS = 60
"""The largest number of panels, as a picture has at most 65,535 pixels in height."""

MOST_SAMPLES = 3
"""The legend shows how validation losses and suggested rates look for so many initializers at most."""


def plot_lr(test: RangeTest) -> Picture:
    """Draw the losses of each configuration by learning rate; a dot marks the suggested rate.

    Parameters
    ----------
    test
        The results of :func:`fnnexp.lr_range`.

    Returns
    -------
    Picture
        A matplotlib Figure. It has a panel for each combination of the factors other than the initializer, at
        most 60, and in it a line for each initializer's training loss, with a thin one for the validation
        loss.
    """
    lines = ["init" if factor == "init" else "" for factor in test.factors]
    own = [
        (
            " ".join(option for option, line in zip(options, lines, strict=True) if line) or "training",
            ", ".join(option for option, line in zip(options, lines, strict=True) if not line),
        )
        for options in test.options
    ]
    titles = list(dict.fromkeys(title for _, title in own))[:MOST_PANELS]
    drawn = styles(list(dict.fromkeys(name for name, _ in own)))
    figure, axes = panels(
        in_rows(len(titles), columns_for(len(titles))),
        titles,
        len(drawn) + 2,
        x_label="learning rate",
        y_label="loss",
    )
    known = [losses[np.isfinite(losses)] for losses in (*test.train, *test.val)]
    known = [losses for losses in known if losses.size]
    low = min((losses.min() for losses in known), default=0.1)
    high = max((losses[0] for losses in known), default=1.0)
    for ax, title in zip(axes, titles, strict=True):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(low * 0.8, high * 1.6)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        for i, (name, of) in enumerate(own):
            if of == title:
                _draw(ax, test, i, drawn[name].color, drawn[name].linestyle)
    entries: dict[str, Any] = {
        name: Line2D([], [], color=style.color, linestyle=style.linestyle, linewidth=1.4)
        for name, style in drawn.items()
    }
    few = list(drawn.values())[:MOST_SAMPLES]
    entries["validation"] = tuple(
        Line2D([], [], color=style.color, linestyle=style.linestyle, linewidth=0.7) for style in few
    )
    entries["suggested"] = tuple(
        Line2D([], [], color=style.color, marker="o", markersize=6, linestyle="") for style in few
    )
    add_legend(figure, entries)
    return figure


def _draw(ax: Any, test: RangeTest, i: int, color: str, dashes: Any) -> None:
    """Draw the losses of a configuration by learning rate, with a dot at its suggested rate."""
    rates, losses, suggested = test.rates[i], test.train[i], test.readings[i].suggested
    ax.plot(rates, losses, color=color, linestyle=dashes, linewidth=1.4)
    ax.plot(rates, test.val[i], color=color, linestyle=dashes, linewidth=0.7)
    if np.isfinite(suggested):
        seen = np.isfinite(losses)
        at = np.exp(np.interp(np.log(suggested), np.log(rates[seen]), np.log(losses[seen])))
        ax.plot([suggested], [at], color=color, marker="o", markersize=6)
