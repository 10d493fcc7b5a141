"""Plot the results of the speed benchmark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

COLORS = {
    "fnnexp": "#1a5fb4",
    "fnnexp, numba": "#12a5c4",
    "bare products": "#9aa4af",
    "plain loop": "#8a6d3b",
    "PyTorch": "#c64600",
    "JAX": "#613583",
    "row-by-row loop": "#8a6d3b",
}
TITLES = {
    "full": "full batches: 784-100-10 ReLU",
    "mini": "mini-batches of 128: 784-128-10 tanh",
    "sample": "one row at a time: 784-32-32-10 sigmoid",
    "full_alone": "full batches: one 784-100-10 ReLU alone, with all cores",
    "mini_alone": "mini-batches of 128: one 784-128-10 tanh alone, with all cores",
    "keras": "Keras's mnist_mlp: 784-512-512-10 ReLU, dropout, RMSprop, batches of 128",
    "keras_without_dropout": "Keras's mnist_mlp without dropout",
    "nielsen": "Nielsen's batches of 10: 784-30-10 sigmoid, quadratic cost",
}


def draw(frame: pd.DataFrame, file: Path) -> None:
    """Plot the seconds for an epoch of one lane on a logarithmic axis, with a panel for each mode."""
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(frame["mode"]))
    rows = [int((frame["mode"] == mode).sum()) for mode in modes]
    figure = Figure(figsize=(11, 0.6 * (1 + len(modes)) + 0.21 * sum(rows)), layout="constrained")
    panels = figure.subplots(len(modes), 1, squeeze=False, height_ratios=rows)[:, 0]
    for panel, mode in zip(panels, modes, strict=True):
        results = frame[frame["mode"] == mode].sort_values("seconds", ascending=False)
        names = [
            f"{r.contender}, {r.lanes} lanes, {r.dtype}" if r.lanes > 1 else f"{r.contender}, {r.dtype}"
            for r in results.itertuples()
        ]
        colors = [COLORS.get(name, "#2a7b4f") for name in results["contender"]]
        panel.grid(axis="y", color="#e3e6ea", zorder=0)
        panel.scatter(results["seconds"], names, color=colors, s=45, zorder=3)
        for name, seconds in zip(names, results["seconds"], strict=True):
            label = f"{seconds:.3g}"
            panel.annotate(
                label, (seconds, name), (7, 0), textcoords="offset points", va="center", fontsize=8
            )
        panel.set_xscale("log")
        panel.set_title(TITLES[mode], loc="left", fontsize=10)
        panel.tick_params(axis="y", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.1, y=0.03)
    panels[-1].set_xlabel("seconds for one lane's epoch on MNIST, all cores busy (lower is better)")
    figure.savefig(file, dpi=110)
