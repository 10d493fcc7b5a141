"""A trial: one fully resolved experiment, its identity, and which trials can share a stack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

from fnnexp.data.datasets import Prepared
from fnnexp.nn.pieces.initializers import standard_deviation
from fnnexp.nn.training import Lane, Recipe

NUMERICS = 1
"""Goes up when the same trial would train to other numbers; it is part of a trial's identity."""

ALWAYS = frozenset({
    "architecture", "inputs", "hidden", "classes", "activation", "hidden_bias", "output_bias",
    "batching", "mode", "size", "shuffle",
    "optimizer", "epochs", "reduction", "epsilon", "scale", "validation", "dtype",
})  # fmt: skip
"""The fields of a recipe that are part of every id, at whatever value: those that the first ids were made of.

A field that was added later is part of an id only where it is not at its default. So earlier trials keep
their ids, and are found as finished. Never add a name here.
"""


@dataclass(frozen=True)
class Trial:
    """One experiment.

    Attributes
    ----------
    recipe
        What it shares with its stack: architecture, batching, optimizer, epochs, …
    data
        The prepared data set.
    method, std
        The initializer, and the constant of ``normal``.
    hyper
        The optimizer's hyperparameters as (name, value).
    seed
        The address of its draws.
    name
        For people: ``relu_100-he-mini-s3``.
    params
        What MLflow shows of it, flat.
    config
        The resolved config, for its artifact.
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

    @cached_property
    def id(self) -> str:
        """A hash of the scientific content alone: same content, same id, wherever and whenever it runs."""
        return _digest({**self._content(), "init": [self.method, self.std]})

    @cached_property
    def numbers_id(self) -> str:
        """A hash of what is computed: trials with one numbers_id are numerically identical."""
        return _digest({**self._content(), "stds": self.stds})

    @property
    def stds(self) -> tuple[float, ...]:
        """The standard deviation of each layer's weights at the start."""
        return tuple(
            standard_deviation(self.method, *shape, self.std) for shape in self.recipe.architecture.shapes
        )

    @property
    def stack_key(self) -> tuple[Recipe, str]:
        """Trials with one key can share a stack."""
        return self.recipe, self.data.checksum

    def lane(self) -> Lane:
        """Return its place in a stack; the key is its :attr:`numbers_id`."""
        return Lane(self.numbers_id, self.seed, self.stds, self.hyper)

    def _content(self) -> dict[str, Any]:
        return {
            "numerics": NUMERICS,
            "recipe": scientific(self.recipe),
            "hyper": dict(self.hyper),
            "seed": self.seed,
            "data": self.data.checksum,
        }


def scientific(recipe: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that an id is made of, nested; see :data:`ALWAYS`.

    Raises
    ------
    TypeError
        When a field that is not in :data:`ALWAYS` has no default.
    """
    content: dict[str, Any] = {}
    for each in fields(recipe):
        value = getattr(recipe, each.name)
        if each.name not in ALWAYS:
            if each.default is MISSING:
                raise TypeError(f"{type(recipe).__name__}.{each.name} was added later and has no default")
            if value == each.default:
                continue
        if is_dataclass(value):
            content[each.name] = scientific(value) if each.name in ALWAYS else asdict(value)  # type: ignore[arg-type]
        else:
            content[each.name] = value
    return content


def _digest(content: Mapping[str, Any]) -> str:
    """Return 16 hex digits of the SHA-256 of the content as canonical JSON (floats to their last bit)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
