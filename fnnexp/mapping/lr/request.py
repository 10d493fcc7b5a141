"""The words of a range test's command, its configurations, and the trials whose learning rates rise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.config.commands import Command
from fnnexp.config.compose import Sweep
from fnnexp.config.jobs import key_of
from fnnexp.config.resolve import ParamsOfTrials, later_defaults, with_values
from fnnexp.config.schema import CHOICES, OF_GRIDS, OF_SWEEPS, SEEDS, StoppingConfig, keys_of
from fnnexp.config.trial import Trial
from fnnexp.errors import ConfigError

BELOW, ABOVE = 1000.0, 100.0
"""The rate rises from the configuration's own learning rate / BELOW to this rate · ABOVE."""

NARROWEST = 10.0
"""The highest rate must be at least so many times the lowest."""

EPOCHS, LEAST_STEPS = 50, 200
"""The rate rises for at least so many epochs, each of which gives one loss, and at least so many steps."""

STEPS = 20
"""The number of mini-batches in such an epoch, or fewer on small data."""

ROWS = 200
"""The number of rows in such an epoch if each row is a step."""

FULL = 10_000
"""Maximum number of rows in a full batch."""

LEAST, GREATEST = 1e-30, 1e30
"""The least and the greatest rate of a test, within what float32 can hold."""

EXAMPLE = "range=0.001..10"

OF_STOPPING = (f"stopping.{key}" for key in keys_of(StoppingConfig))

UNVARIED = frozenset({*SEEDS, "optimizer.lr", "epochs", *OF_STOPPING})
"""The params that do not count when a range test distinguishes configurations."""

SEEDED = "seed=range(5)"
"""The seeds of the sweep that the range test suggests to run next."""


@dataclass(frozen=True)
class Request:
    """The learning-rate range test that a command asks for.

    Attributes
    ----------
    command
        The sweep over the configurations, at their own learning rates.
    ends
        The lowest and the highest rate for all configurations; None to choose them for each.
    """

    command: Command
    ends: tuple[float, float] | None = None

    def words(self) -> str:
        """Return the line for a shell that runs this range test."""
        own = [] if self.ends is None else [f"range={self.ends[0]!r}..{self.ends[1]!r}"]
        overrides = (*self.command.overrides, *own)
        return replace(self.command, overrides=overrides, multirun=False).line("fnnexp lr")

    def sweep(self, rates: Sequence[float], has_seeds: bool) -> str:
        """Return the command of a sweep over these rates for the user to paste, to see which rate is best.

        It adds :data:`SEEDED` unless the range test has several seeds, or the command names one.
        """
        own = [f"optimizer.lr={','.join(f'{rate:g}' for rate in rates)}"]
        if not has_seeds and not any(key_of(word) == "seed" for word in self.command.overrides):
            own.append(SEEDED)
        overrides = (*self.command.overrides, *own)
        return replace(self.command, overrides=overrides).pasted()


@dataclass(frozen=True)
class Configuration:
    """A configuration to test: its values of the keys that vary, and one trial for each seed.

    The learning rate of these trials rises.
    """

    options: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def rates(self) -> NDArray[np.float64]:
        """The learning rate in the middle of each epoch (n,)."""
        (low, high), epochs = self.ends, self.trials[0].recipe.epochs
        return np.asarray(low * (high / low) ** ((np.arange(epochs) + 0.5) / epochs))

    @property
    def ends(self) -> tuple[float, float]:
        """The learning rates at the start and at the end of training, the lowest and the highest."""
        trial = self.trials[0]
        assert trial.schedule is not None
        low = dict(trial.hyper)["lr"]
        return low, low * dict(trial.schedule.parameters)["gamma"] ** trial.recipe.epochs


def parse(command: Command) -> Request:
    """Return the range test that the words of a command ask for.

    Raises
    ------
    ConfigError
        With what was given, what is allowed and what to write.
    """
    given, ends, shared = None, None, []
    for word in command.overrides:
        key, _, value = word.partition("=")
        if key == "range":
            text = value.strip("'")  # `lr_range(range="0.001..10")` puts quotes around it
            if given is not None and given != text:
                raise ConfigError(f"range is given twice, as {given} and {text}; write it once")
            given, ends = text, _ends(word, text)
        else:
            _refuse(word)
            shared.append(word)
    return Request(replace(command, overrides=tuple(shared), multirun=True), ends)


def _ends(word: str, text: str) -> tuple[float, float]:
    """Return the lowest and the highest rate of ``range=LOW..HIGH``."""
    low_text, dots, high_text = text.partition("..")
    if not dots:
        raise ConfigError(f"{word}: must be the lowest and the highest rate, LOW..HIGH; write {EXAMPLE}")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        low = high = math.nan
    if not (LEAST <= low <= GREATEST and LEAST <= high <= GREATEST):
        raise ConfigError(
            f"{word}: both ends must be numbers above 0, from {LEAST:g} to {GREATEST:g}; write {EXAMPLE}"
        )
    if not low < high:
        raise ConfigError(
            f"{word}: the rate rises, so the first of the two must be the smaller; write {EXAMPLE}"
        )
    if high < NARROWEST * low:
        raise ConfigError(
            f"{word}: the highest rate must be at least {NARROWEST:g} times the lowest; write {EXAMPLE}"
        )
    return low, high


def _refuse(word: str) -> None:
    """Raise if an override sets what a range test itself decides, such as the learning rate or a schedule."""
    key = key_of(word)
    top = key.partition(".")[0]
    if _is_rate(key):
        raise ConfigError(
            f"{word}: a range test looks for the learning rate; omit {word}, or write the rates to test, as "
            f"in {EXAMPLE}"
        )
    if top == "schedule" and word != "schedule=constant":
        raise ConfigError(
            f"{word}: in a range test the rate rises, so there is no other schedule; omit {word}, and add it "
            "to the sweep that follows"
        )
    if top in OF_SWEEPS and top not in OF_GRIDS:
        raise ConfigError(
            f"{word}: has no meaning for a range test, which trains each configuration once; omit {word}"
        )


def _is_rate(key: str) -> bool:
    return key == "optimizer.lr" or key.startswith("optimizer.lr_for")


def configurations(request: Request, sweep: Sweep) -> tuple[list[str], list[Configuration]]:
    """Return the keys that distinguish a sweep's configurations, such as ``init``, and the configurations.

    Raises
    ------
    ConfigError
        If a grid's file sets what a range test itself decides, or if the trials of a configuration have
        different learning rates.
    """
    searches = [sweep.search.name != "grid", sweep.until.name, sweep.budget, sweep.tuned]
    if any(searches):
        raise ConfigError(
            f"{sweep.command.config_name}: is a search, but a range test trains each configuration once; "
            "write the name of a grid after -cn, or omit -cn"
        )
    if sweep.execution.diagnostics:
        raise ConfigError("diagnostics=true: a range test records no diagnostics; omit it")
    for trial in sweep.trials:
        if trial.schedule is not None:
            raise ConfigError(
                f"schedule={trial.schedule.name}: in a range test the rate rises, so there is no other "
                "schedule; write schedule=constant"
            )
    _refuse_swept_rates(request, sweep)
    # Values that change no trial here, such as other epochs, make no configuration of their own.
    distinct: dict[str, tuple[Trial, Mapping[str, str]]] = {}
    for trial, params in zip(sweep.trials, ParamsOfTrials(sweep.trials), strict=True):
        risen = rising(trial, request.ends)
        distinct.setdefault(risen.id, (risen, params))
    # A single configuration is named by its network.
    factors, defaults = _factors([params for _, params in distinct.values()]) or ["arch"], later_defaults()
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for risen, params in distinct.values():
        options = tuple(params.get(factor, str(defaults.get(factor, ""))) for factor in factors)
        groups.setdefault(options, []).append(risen)
    listed = [Configuration(options, tuple(each)) for options, each in groups.items()]
    for each in listed:
        if len(rates := {Configuration(each.options, (trial,)).ends for trial in each.trials}) > 1:
            (low, high), *_, (other_low, other_high) = sorted(rates)
            raise ConfigError(
                f"{' '.join(each.options)}: the range of a test follows from the trial's optimizer.lr, "
                f"and these trials have several, so their ranges differ: {low:g}..{high:g} and "
                f"{other_low:g}..{other_high:g}; write one range for all, as in {EXAMPLE}"
            )
    return factors, listed


def _refuse_swept_rates(request: Request, sweep: Sweep) -> None:
    """Raise if a grid sweeps over the learning rate in a way that a range test cannot take over.

    Rates may be swept if ``range=`` gives the rates to test, but not joined with other keys by ``zip``.
    """
    for group in sweep.swept:
        key = next(filter(_is_rate, group), None)
        if key is None:
            continue
        rates = sorted({dict(trial.hyper)["lr"] for trial in sweep.trials})
        own = f"range={rates[0]:g}..{rates[-1]:g}"
        example = own if rates[0] >= LEAST and NARROWEST * rates[0] <= rates[-1] <= GREATEST else EXAMPLE
        instead = example if request.ends is None else ""
        if len(group) > 1:
            others = [[other for other in keys if not _is_rate(other)] for keys in sweep.swept]
            left = ",".join(f"[{','.join(keys)}]" for keys in others if len(keys) > 1)
            raise ConfigError(
                f"zip=[[{','.join(group)}]]: a range test, and the sweep that follows, try every rate with "
                f"every configuration; write {f'zip=[{left}]' if left else 'zip=null'} {instead}".rstrip()
            )
        if instead:
            raise ConfigError(
                f"{key} has several values, but a range test sweeps over the learning rate itself; write the "
                f"rates to test, as in {instead}"
            )


def _factors(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys that distinguish configurations, such as ``init``.

    Keys that an option of their group determines are left out, as ``init=he`` determines ``init.method``.
    """
    keys = list(dict.fromkeys(key for each in params for key in each))

    def distinct(key: str, by: str | None = None) -> int:
        """Count the distinct values of `key` in each group with one value of `by`; return the most."""
        values: dict[str | None, set[str | None]] = {}
        for each in params:
            values.setdefault(by and each.get(by), set()).add(each.get(key))
        return max(map(len, values.values()))

    varied = [key for key in keys if key not in UNVARIED and distinct(key) > 1]
    return [
        key
        for key in varied
        if (group := key.partition(".")[0]) == key or group not in CHOICES or distinct(key, group) > 1
    ]


def rising(trial: Trial, ends: tuple[float, float] | None) -> Trial:
    """Return a trial like this one, but with a learning rate that rises by the same factor at each step.

    It is an ordinary trial with ``schedule=exponential`` on a subset of the rows. Its epochs are short, since
    each gives one loss.
    """
    batching = trial.recipe.batching
    n = trial.recipe.rows_to_train(trial.data.n_train)
    low, high = ends or _usual(trial, n)
    most = {"full": FULL, "mini": STEPS * batching.batch_size(n), "sample": ROWS}[batching.mode]
    rows = min(most, n)
    epochs = max(EPOCHS, -(-LEAST_STEPS // -(-rows // batching.batch_size(rows))))
    values: dict[str, Any] = {
        "optimizer.lr": low,
        "schedule.name": "exponential",
        "schedule.gamma": (high / low) ** (1 / epochs),
        "epochs": epochs,
        "stopping.patience": None,
    }
    if rows < n:
        values["data.subset"] = rows
    return with_values(trial, values)


def _usual(trial: Trial, n: int) -> tuple[float, float]:
    """Return the lowest and the highest rate to test, around the trial's own learning rate.

    An optimizer's default rate is for the mean of a batch's gradients. If steps use the sum of the
    gradients, a default rate is divided by the batch size first.
    """
    lr, mode = dict(trial.hyper)["lr"] or 1.0, trial.recipe.batching.mode
    is_default = lr == trial.config["optimizer"]["lr_for"].get(mode)
    if is_default and trial.recipe.reduction == "sum":
        lr /= trial.recipe.batching.batch_size(n)
    low, high = lr / BELOW, lr * ABOVE
    if not (low >= LEAST and high <= GREATEST):
        raise ConfigError(
            f"optimizer.lr={dict(trial.hyper)['lr']:g}: the rates to test lie around it, but must be from "
            f"{LEAST:g} to {GREATEST:g}; write other rates, as in {EXAMPLE}"
        )
    return low, high
