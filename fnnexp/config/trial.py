"""A trial: one fully resolved experiment, its identity, and its key for sharing a stack."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

from fnnexp.data.datasets import Prepared
from fnnexp.nn.pieces.initializers import Biases, distribution_of, standard_deviation
from fnnexp.nn.pieces.schedules import Schedule
from fnnexp.nn.training import Lane, Recipe

NUMERICS = 1
"""Raise this number if trials train to other results than before. It is part of every trial's id."""

MOST_RECIPES = 4096
"""Maximum number of recipes whose content is kept."""

ALWAYS = frozenset({
    "architecture", "inputs", "hidden", "classes", "activation", "hidden_bias", "output_bias",
    "batching", "mode", "size", "shuffle",
    "optimizer", "epochs", "reduction", "epsilon", "scale", "validation", "dtype",
})  # fmt: skip
"""The fields of a recipe that are part of every id, whatever their value. Never add a name here.

A field that was added later is part of an id only if its value is not the default. So earlier trials keep
their ids, and a sweep finds them as finished.
"""


@dataclass(frozen=True)
class Trial:
    """One fully resolved experiment.

    Attributes
    ----------
    recipe
        The settings that trials must share to train together: architecture, batching, optimizer, epochs, …
    data
        The prepared data set.
    method, std
        The initializer, and the standard deviation of ``normal`` and ``truncated_normal``.
    hyper
        The optimizer's hyperparameters as pairs (name, value).
    seed
        The seed of its random draws. `seeds` may have another seed for some of them.
    name
        The name that people see, such as ``relu_100-he-mini-s3``.
    params
        The params of its MLflow run, by dotted key.
    config
        The resolved config, which is stored with the run as ``config.yaml``.
    gain
        The factor by which the initial weights are multiplied.
    bounds
        The lowest and the highest weight of ``uniform``.
    biases
        How to draw the biases that would otherwise start at zero; None to leave them at zero.
    seeds
        The seeds that differ from `seed`, as sorted pairs (purpose, seed); see :class:`Lane`.
    schedule
        How the learning rate changes; None if it is constant.
    """

    recipe: Recipe
    data: Prepared
    method: str
    std: float | None
    hyper: tuple[tuple[str, float], ...]
    seed: int
    name: str = field(compare=False)
    params: Mapping[str, Any] = field(compare=False)
    config: Mapping[str, Any] = field(compare=False)
    gain: float = 1.0
    bounds: tuple[float, float] | None = None
    biases: Biases | None = None
    seeds: tuple[tuple[str, int], ...] = ()
    schedule: Schedule | None = None

    @cached_property
    def id(self) -> str:
        """A hash of all settings that can change the results, and not of where and when the trial runs."""
        added = {
            "gain": self.gain if self.gain != 1 else None,
            "bounds": self.bounds,
            "seeds": dict(self.seeds),
        }
        content = {"init": [self.method, self.std], "seed": self.seed}
        return self._digest(content | {name: value for name, value in added.items() if value})

    @cached_property
    def numbers_id(self) -> str:
        """A hash of what is computed. Trials with the same `numbers_id` are numerically identical.

        Their `id` may differ: with equal layers, for example, two initializers may have the same
        standard deviation.
        """
        return self._digest(self._numbers())

    @cached_property
    def trajectory_id(self) -> str:
        """A hash of what is computed in each epoch. The number of epochs does not enter.

        Trials with the same `trajectory_id` have the same numbers up to the last epoch of the shorter
        one, unless a schedule depends on the number of epochs.
        """
        return self._digest(self._numbers(), with_epochs=False)

    @property
    def kind(self) -> str:
        """A hash of the data and the recipe, except for the number of epochs."""
        return kind_of(self.recipe, self.data.checksum)

    def _numbers(self) -> dict[str, Any]:
        """Return the settings that :attr:`numbers_id` hashes, besides those that :meth:`_digest` adds."""
        seed, seeds = self._seeds_in_use()
        added = {
            "distribution": self.distribution if self.distribution != "normal" else None,
            "mean": self.mean,
            "seeds": dict(seeds),
        }
        content: dict[str, Any] = {"stds": self.stds, "seed": seed}
        return content | {name: value for name, value in added.items() if value}

    @property
    def stds(self) -> tuple[float, ...]:
        """The standard deviation of each layer's weights; that of truncated normals is before truncation."""
        low, high = self.bounds or (0.0, 0.0)
        std = (high - low) / math.sqrt(12) if self.bounds else self.std
        return tuple(
            standard_deviation(self.method, *shape, std) * self.gain
            for shape in self.recipe.architecture.shapes
        )

    @property
    def mean(self) -> float:
        """The mean of the initial weights."""
        return sum(self.bounds or ()) / 2 * self.gain

    @property
    def distribution(self) -> str:
        """The distribution of the initial weights, such as ``normal``."""
        return distribution_of(self.method)

    @property
    def stack_key(self) -> tuple[Recipe, str]:
        """The key for stacking: trials with the same key can train together, as a stack."""
        return self.recipe, self.data.checksum

    def seed_for(self, purpose: str) -> int:
        """Return the seed of the draws for a purpose, ``init``, ``order`` or ``noise``."""
        return dict(self.seeds).get(purpose, self.seed)

    def lane(self) -> Lane:
        """Return the trial's lane (its network in a stack), with :attr:`numbers_id` as its key."""
        return Lane(
            self.numbers_id,
            self.seed,
            self.stds,
            self.hyper,
            self.seeds,
            self.distribution,
            self.mean,
            self.biases,
            self.schedule,
        )

    def _seeds_in_use(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """Return `seed` and `seeds` in a standard form, equal for all trials that draw the same numbers.

        A purpose that draws nothing is omitted: orders without shuffling, for example.
        """
        if not self.seeds:
            return self.seed, ()
        draws_biases = self.biases is not None and self.biases.distribution != "constant"
        in_use = {
            "init": self.distribution != "constant" or draws_biases,
            "noise": any(option.startswith("dropout") for option in self.recipe.options),
            "order": self.recipe.batching.shuffle,
        }
        own = dict(self.seeds)
        seeds = {purpose: own.get(purpose, self.seed) for purpose, used in in_use.items() if used}
        seed = next(iter(seeds.values()), self.seed)
        return seed, tuple((purpose, value) for purpose, value in seeds.items() if value != seed)

    def _digest(self, content: Mapping[str, Any], *, with_epochs: bool = True) -> str:
        """Return a hash of this content and of the other settings that can change the results.

        It is 16 hex digits of the SHA-256 of canonical JSON, with floats to their last bit.
        """
        content = {
            "numerics": NUMERICS,
            "hyper": dict(self.hyper),
            "data": self.data.checksum,
            **content,
        }
        if self.biases is not None:
            content["biases"] = asdict(self.biases)
        if self.schedule is not None:
            content["schedule"] = asdict(self.schedule)
        before, after = (
            {k: v for k, v in content.items() if (k > "recipe") is late} for late in (False, True)
        )
        recipe = _as_json(self.recipe, with_epochs=with_epochs)
        text = f'{_JSON.encode(before)[:-1]},"recipe":{recipe},{_JSON.encode(after)[1:]}'
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def kind_of(recipe: Recipe, checksum: str) -> str:
    """Return a hash of the data, given by its checksum, and the recipe, except for the number of epochs."""
    text = f"{NUMERICS} {checksum} {_as_json(recipe, with_epochs=False)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

_recipes: dict[tuple[int, bool], tuple[Recipe, str]] = {}


def _as_json(recipe: Recipe, *, with_epochs: bool = True) -> str:
    """Return the part of a trial's id that comes from its recipe, as JSON.

    It is cached by object and not by value, since equal recipes may differ in a bit: 0.0 equals -0.0.
    """
    known = _recipes.get((id(recipe), with_epochs))
    if known is None or known[0] is not recipe:
        if len(_recipes) >= MOST_RECIPES:
            _recipes.clear()
        content = scientific(recipe)
        if not with_epochs:
            del content["epochs"]
        known = _recipes[id(recipe), with_epochs] = recipe, _JSON.encode(content)
    return known[1]


def scientific(recipe: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are part of a trial's id, as a nested dict.

    These are the fields in :data:`ALWAYS`, and every other field whose value is not its default.

    Raises
    ------
    TypeError
        If a field that is not in :data:`ALWAYS` has no default.
    """
    content: dict[str, Any] = {}
    for attribute in fields(recipe):
        name, value = attribute.name, getattr(recipe, attribute.name)
        if name not in ALWAYS:
            if attribute.default is MISSING:
                raise TypeError(
                    f"{type(recipe).__name__}.{name} was added later and has no default; give it one, so "
                    "that earlier trials keep their ids"
                )
            if value == attribute.default:
                continue
        if is_dataclass(value):
            content[name] = scientific(value) if name in ALWAYS else asdict(value)  # type: ignore[arg-type]
        else:
            content[name] = value
    return content
