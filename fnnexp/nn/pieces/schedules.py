"""Schedules: factors of the learning rate that depend on the step alone.

The learning rate of step t is ``optimizer.lr`` times the schedule's factor. Steps are counted from 0. With a
warmup of w epochs, the factor rises linearly during the first W steps, those of w epochs: step t < W has the
factor (t + 1) / (W + 1) (Goyal et al. 2017). The schedule begins at step W and runs over the other steps.

In the formulas of the schedules, e is the number of epochs since the schedule began, a fraction within an
epoch, and p = t / T is the part of the schedule's T steps that was taken before step t. So a factor that
falls "to ``end``" would reach it at the step after the last.

To add a schedule, write its function and enter it in :data:`SCHEDULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fnnexp.nn.arrays import Array
from fnnexp.nn.pieces.table import Table

Factor = Callable[[Array, int, int, Mapping[str, float]], Array]


@dataclass(frozen=True)
class Rule:
    """A schedule's function with the names of its parameters.

    Attributes
    ----------
    parameters
        The names of its parameters, in the order of :attr:`Schedule.parameters`.
    factor
        ``factor(steps, count, steps_per_epoch, parameters)`` returns the factors (n,) at some of the
        schedule's ``count`` steps. ``steps`` (n,) are the numbers of these steps, floats counted from 0.
    needs_count
        Whether a factor depends on ``count``. If not, a longer run begins with the factors of a shorter one.
    """

    parameters: tuple[str, ...]
    factor: Factor
    needs_count: bool = True


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes during training.

    Attributes
    ----------
    name
        A key of :data:`SCHEDULES`.
    parameters
        Its parameters as pairs (name, value).
    warmup
        The epochs in which the rate first rises.
    """

    name: str
    parameters: tuple[tuple[str, float], ...] = ()
    warmup: float = 0.0


def factors(schedule: Schedule, first_step: int, count: int, steps: int, steps_per_epoch: int) -> Array:
    """Return the factors of the learning rate at ``count`` steps of a run, in float64.

    Parameters
    ----------
    first_step, count
        The number of the first of these steps, counted from 0; how many steps.
    steps, steps_per_epoch
        The number of steps of the run and of an epoch.

    >>> cosine = Schedule("cosine", (("end", 0.0),), warmup=1.0)
    >>> factors(cosine, 0, 6, steps=6, steps_per_epoch=2).round(3).tolist()
    [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]
    """
    warmup = warmup_steps(schedule, steps_per_epoch)
    t = np.arange(first_step, first_step + count, dtype=np.float64)
    result = (t + 1) / (warmup + 1)
    later = t >= warmup
    rule = SCHEDULES[schedule.name]
    result[later] = rule.factor(t[later] - warmup, steps - warmup, steps_per_epoch, dict(schedule.parameters))
    return result


def warmup_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """Return the number of steps of the warmup: at least one, unless there is no warmup."""
    return max(round(schedule.warmup * steps_per_epoch), 1) if schedule.warmup else 0


def constant(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return the factor 1 for each of the steps t: the learning rate does not change."""
    return np.ones_like(t)


def step(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return γ^⌊e / every⌋ after e epochs: the rate is multiplied by γ once in ``every`` epochs.

    He, Zhang, Ren & Sun (2016) use γ = 0.1.
    """
    return np.power(of["gamma"], np.floor(t / (of["every"] * per_epoch)))


def exponential(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return γ^e after e epochs: the rate is gradually multiplied by γ  (Bengio 2012, section 3.1)."""
    return np.power(of["gamma"], t / per_epoch)


def inverse_time(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return 1 / (1 + rate · e) after e epochs  (Robbins & Monro 1951; as in Bottou 2012, section 5.2)."""
    return 1 / (1 + of["rate"] * (t / per_epoch))


def linear(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return 1 + (end − 1) p, a line from 1 to ``end``, where p is the part of the steps already taken."""
    return 1 + (of["end"] - 1) * (t / steps)


def cosine(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return end + (1 − end) (1 + cos π p) / 2, where p is the part of the steps already taken.

    This is equation 5 of Loshchilov & Hutter (2017), without restarts.
    """
    return of["end"] + (1 - of["end"]) * (1 + np.cos(np.pi * (t / steps))) / 2


def one_cycle(t: Array, steps: int, per_epoch: int, of: Mapping[str, float]) -> Array:
    """Return factors that rise linearly from 1 to ``peak`` while p < rise, and then fall linearly to ``end``.

    p is the part of the steps already taken. This is the 1cycle policy of Smith (2018), except that the rate
    falls only once; ``optimizer.lr`` is the rate at its start.
    """
    p, rise, peak = t / steps, of["rise"], of["peak"]
    up = 1 + (peak - 1) * (p / rise)
    down = peak + (of["end"] - peak) * ((p - rise) / (1 - rise))
    return np.where(p < rise, up, down)


SCHEDULES: Table[Rule] = Table(
    {
        "constant": Rule((), constant, needs_count=False),
        "step": Rule(("every", "gamma"), step, needs_count=False),
        "exponential": Rule(("gamma",), exponential, needs_count=False),
        "inverse_time": Rule(("rate",), inverse_time, needs_count=False),
        "linear": Rule(("end",), linear),
        "cosine": Rule(("end",), cosine),
        "one_cycle": Rule(("peak", "rise", "end"), one_cycle),
    }
)
"""The schedules. The keys are the allowed values of ``schedule.name``."""
