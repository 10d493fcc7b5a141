"""Measure estimates of time: those of the dry run, and the time left that the bar shows, against the clock.

python -m benchmarks.estimates [--case NAME] [--rounds N]

Every command runs as a user would run it, in a new process and a new folder with a new SQLite store. It needs
MNIST (`FNNEXP_MNIST`, or a download) and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.speed import RESULTS
from benchmarks.sweep import FNNEXP, environment, new_folder

NUMPY, NUMBA = "execution.engine=numpy", "execution.engine=numba"

CASES: dict[str, Sequence[str]] = {
    "card grid, 3 epochs, numba": ("-cn", "card_grid", "epochs=3", NUMBA),
    "card grid, 10 epochs, numba": ("-cn", "card_grid", "epochs=10", NUMBA),
    "card grid, 3 epochs, NumPy": ("-cn", "card_grid", "epochs=3", NUMPY),
    "card grid, 10 epochs, NumPy": ("-cn", "card_grid", "epochs=10", NUMPY),
    "digits, 600 trials": ("-m", "data=digits", "epochs=20", "init=xavier,he", "seed=range(300)"),
    "one trial, 100 epochs": ("epochs=100", NUMBA),
}

SHARES = {"third": 1 / 3, "half": 1 / 2, "two_thirds": 2 / 3}
"""The parts of the way at which the time left, as the bar shows it, is compared with what it was."""

UNITS = {"s": 1, "min": 60, "h": 3600}


def main() -> None:
    if sys.argv[1:2] == ["watch"]:
        sys.exit(watch(Path(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="measure only this case")
    parser.add_argument("--rounds", type=int, default=1, help="how often to measure each case")
    arguments = parser.parse_args()
    console, rows = Console(), []
    with new_folder() as cache:
        os.environ["FNNEXP_CACHE"] = str(cache)
        for data in ("mnist", "digits"):  # prepares the data, and the second time is like any other
            said([f"data={data}", "epochs=0"], cache)
        for number in range(arguments.rounds):
            for case in arguments.case or CASES:
                rows.append({"case": case, "round": number, **measured(CASES[case])})
                console.print(rows[-1])
    frame = pd.DataFrame(rows)
    if arguments.case is None:
        frame.to_csv(RESULTS / "estimates.csv", index=False, float_format="%.4g")
    show(frame, console)


def measured(words: Sequence[str]) -> dict[str, object]:
    """Return the seconds of a sweep, the estimates of dry runs before and after it, and of the time left."""
    with new_folder() as folder:
        said(["clean", "speeds", "--yes"], folder)
        first, source = estimate(words, folder)
        out = folder / "bar.json"
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.estimates", "watch", str(out), *words]
        subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        later, later_source = estimate([*words, "tracking.experiment=another"], folder)
        bar = json.loads(out.read_text())
    return {
        "seconds": seconds,
        "dry_run": first,
        "source": source,
        "dry_run_error": first / seconds - 1,
        "later_dry_run": later,
        "later_source": later_source,
        "later_error": later / seconds - 1,
        **{f"left_error_at_{name}": error_at(share, bar) for name, share in SHARES.items()},
        "first_shown_at": next((at for at, shown in bar["samples"] if shown is not None), None),
    }


def estimate(words: Sequence[str], folder: Path) -> tuple[float, str]:
    """Return the seconds that a dry run says, and where it has them from."""
    line = re.search(
        r"^time: (?:at most )?about (.+?) on .*\((.+)\)$", said(["dry_run=true", *words], folder), re.M
    )
    if line is None:
        raise SystemExit(f"the dry run of {' '.join(words)} says no time")
    return seconds_of(line[1]), line[2]


def seconds_of(text: str) -> float:
    """Return the seconds that a text says, such as "1 h 55 min"."""
    parts = re.findall(r"(\d+|a) (second|s|min|h)\b", text)
    return float(sum(1 if unit == "second" else int(number) * UNITS[unit] for number, unit in parts))


def said(words: Sequence[str], folder: Path) -> str:
    """Return what a command prints."""
    command = [*FNNEXP, *words]
    ran = subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, text=True)
    return ran.stdout


def error_at(share: float, bar: Mapping[str, Any]) -> float | None:
    """Return by how much the time left was wrong at a share of the way; None if none was shown.

    "A few seconds left" is right if no more were left than the bar calls a few.
    """
    from fnnexp.sweeping.terminal.progress import A_FEW

    at = share * bar["ended"]
    *_, (_, shown) = [(0.0, None), *((when, shown) for when, shown in bar["samples"] if when <= at)]
    if shown is None:
        return None
    left = bar["ended"] - at
    seconds = min(left, A_FEW) if "few" in shown else seconds_of(shown)
    return seconds / left - 1


def watch(out: Path, words: Sequence[str]) -> int:
    """Run a command, and write the time left that its bar would show every tenth of a second."""
    from fnnexp import cli
    from fnnexp.sweeping.terminal.progress import SweepProgress, in_words

    samples: list[tuple[float, str | None]] = []
    began, ended = time.monotonic(), threading.Event()
    enter, leave = SweepProgress.__enter__, SweepProgress.__exit__

    def sample(progress: SweepProgress) -> None:
        while not ended.wait(0.1):
            left = progress.time_left.seconds() if progress.time_left else None
            samples.append((time.monotonic() - began, None if left is None else in_words(left)))

    def start(progress: SweepProgress) -> SweepProgress:
        nonlocal began
        began = time.monotonic()
        threading.Thread(target=sample, args=(progress,), daemon=True).start()
        return enter(progress)

    def stop(progress: SweepProgress, *error: object) -> None:
        ended.set()
        out.write_text(json.dumps({"samples": samples, "ended": time.monotonic() - began}))
        leave(progress, *error)  # type: ignore[arg-type]

    SweepProgress.__enter__, SweepProgress.__exit__ = start, stop  # type: ignore[method-assign, assignment]
    return cli.main(list(words))


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print the results as a table."""
    table = Table(*frame.columns)
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


if __name__ == "__main__":
    main()
