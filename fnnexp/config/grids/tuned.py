"""Tuned comparisons, as in ``compare=init tune=optimizer.lr``: what is compared, what is tuned, which seeds.

Each option that is compared, a level, is trained with the same drawn configurations and the seeds
:data:`TUNING_SEEDS`. Its best configuration is trained with fresh seeds, which chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fnnexp.config.jobs import has_values
from fnnexp.config.messages import no_such_key
from fnnexp.config.schema import CHOICES, NODES, SEEDS, UNSCIENTIFIC, Config, SearchConfig, every_key, keys_of
from fnnexp.errors import ConfigError

TUNING_SEEDS = (1_000_000, 1_000_001)
"""The seeds that tune. They lie far from the seeds of any comparison, so further fresh seeds can be added
later, and the configurations that are chosen stay the same."""

FRESH_SEEDS = 6
"""The number of fresh seeds, if the command does not list them."""

DRAWS = 12
"""How many configurations are drawn for each compared option, unless ``search.trials`` is given."""

SPACES = {"optimizer.lr": "tag(log,interval(1e-4,1))"}
"""The space from which the values of a tuned key are drawn, unless the command gives values."""

SEARCHES = ("grid", "random", "sobol")
"""The searches that can draw the configurations to try. ``grid``, the default, draws as ``random`` does."""

EXAMPLE = "compare=init tune=optimizer.lr"


@dataclass(frozen=True)
class Tuned:
    """What a command with ``compare`` and ``tune`` asks for: what to compare, what to tune, which seeds.

    Attributes
    ----------
    compare
        The factors whose options are compared.
    tune
        The keys whose values are tuned for each option.
    fresh
        The seeds for the final comparison of the tuned options. No trial that tunes has them.
    """

    compare: tuple[str, ...]
    tune: tuple[str, ...]
    fresh: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the values of ``compare`` and ``tune`` as text. A store keeps it as the comparison's name.

        >>> str(Tuned(("init",), ("optimizer.lr", "optimizer.momentum")))
        'compare=init tune=[optimizer.lr,optimizer.momentum]'
        """
        return f"compare={_text(self.compare)} tune={_text(self.tune)}"

    @property
    def sections(self) -> frozenset[str]:
        """The groups of the compared factors: ``init`` for the factor ``init``, and for ``init.gain`` too."""
        return frozenset(name.partition(".")[0] for name in self.compare)


def parsed(text: str) -> Tuned | None:
    """Read the text that ``str`` makes of a tuned comparison; return None for any other text.

    >>> parsed("compare=init tune=[optimizer.lr,optimizer.momentum]").tune, parsed("compare=init")
    (('optimizer.lr', 'optimizer.momentum'), None)
    """
    compare, separator, tune = text.removeprefix("compare=").partition(" tune=")
    if not separator or not text.startswith("compare="):
        return None
    return Tuned(tuple(compare.strip("[]").split(",")), tuple(tune.strip("[]").split(",")))


def named(compare: Any, tune: Any, is_group: Callable[[str], bool]) -> Tuned | None:
    """Return the tuned comparison that the values of ``compare`` and ``tune`` ask for; None without ``tune``.

    Raises
    ------
    ConfigError
        If a key does not exist, cannot be tuned, or is compared and tuned, or if nothing is compared.
    """
    if tune is None:
        return None
    if compare is None:
        raise ConfigError(
            f"tune={_text(tune)}: tunes a key for each option of a factor; write the factor too, as in "
            f"{EXAMPLE}"
        )
    compared, keys = _names("compare", compare, "compare=init"), _names("tune", tune, "tune=optimizer.lr")
    for key in keys:
        _refuse_untunable(key, is_group)
        if key in compared:
            raise ConfigError(
                f"tune={key}: {key} is compared, and cannot be tuned too; write another key to tune, as in "
                f"{EXAMPLE}"
            )
    for name in compared:
        if not (name in CHOICES or has_values(name)) or name.partition(".")[0] in UNSCIENTIFIC:
            raise ConfigError(f"compare={no_such_key(name, keys_of(Config))}")
        if name in SEEDS:
            raise ConfigError(
                f"compare={name}: seeds repeat a trial, so they are not compared; write {EXAMPLE}"
            )
    return Tuned(compared, keys)


def _names(key: str, given: Any, example: str) -> tuple[str, ...]:
    names = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{key}={_text(given)}: must be a key or a list of keys; write {example}")
    return tuple(dict.fromkeys(map(str, names)))


def _refuse_untunable(key: str, is_group: Callable[[str], bool]) -> None:
    if key in NODES or is_group(key):
        tunable = [name for name in keys_of(NODES[key]) if name != "name"] if key in NODES else []
        instead = f"{key}.{'lr' if 'lr' in tunable else tunable[0]}" if tunable else "optimizer.lr"
        raise ConfigError(f"tune={key}: {key} is a group of keys; write one of them, as in tune={instead}")
    if key not in every_key():
        raise ConfigError(f"tune={no_such_key(key, keys_of(Config))}")
    if key in SEEDS:
        raise ConfigError(f"tune={key}: seeds repeat a trial, so they are not tuned; write tune=optimizer.lr")
    if key.partition(".")[0] in UNSCIENTIFIC:
        raise ConfigError(
            f"tune={key}: changes no result, so there is nothing to tune; write tune=optimizer.lr"
        )


def lines_of_values(
    tuned: Tuned,
    swept: Mapping[str, bool],
    given: Mapping[str, str],
    options: Callable[[str], Sequence[str]],
) -> list[str]:
    """Return overrides for what the command leaves out: the options to compare, or the values to try.

    Parameters
    ----------
    tuned
        The comparison.
    swept
        For each key that the command sets, whether it gives several values.
    given
        The override of each key that the command sets.
    options
        Returns the options of a group, and an empty list for a key that is no group.

    Raises
    ------
    ConfigError
        If a compared or tuned key has a single value, if it has no values and there is no default, or if
        another key has several values.
    """
    lines = []
    for name in tuned.compare:
        listed = options(name)
        if name not in given and not listed:
            raise ConfigError(f"compare={name}: {name} has no values to compare; write {name}=A,B")
        if name not in given:
            lines.append(f"{name}={','.join(listed)}")
        elif not swept[name]:
            everything = f", or omit {given[name]} to compare all options" if listed else ""
            raise ConfigError(
                f"compare={name}: with {given[name]} there is nothing to compare; write several values, as "
                f"{name}=A,B{everything}"
            )
    for key in tuned.tune:
        if key not in given and key not in SPACES:
            raise ConfigError(
                f"tune={key}: needs the values to try; write them too, as '{key}=interval(A,B)', "
                f"'{key}=tag(log,interval(A,B))' or {key}=A,B,C"
            )
        if key not in given:
            lines.append(f"{key}={SPACES[key]}")
        elif not swept[key]:
            default = f", or omit it for {SPACES[key]}" if key in SPACES else ""
            raise ConfigError(
                f"{given[key]}: tune={key} needs several values to try; write '{key}=tag(log,interval(A,B))' "
                f"or {key}=A,B,C{default}"
            )
    for key, has_several in swept.items():
        if has_several and key in SEEDS and key != "seed":
            raise ConfigError(
                f"{given[key]}: with tune, options are compared seed by seed, and only `seed` may have "
                f"several values; write one value of {key}, or omit it"
            )
        if has_several and key not in (*tuned.compare, *tuned.tune, *SEEDS):
            # Options of arch differ in arch.hidden and arch.activation; if these are swept, some are equal.
            is_arch = key.startswith("arch.")
            others = [name for name in tuned.compare if name in given or not (is_arch and name == "arch")]
            names = ",".join([*others, key])
            raise ConfigError(
                f"{given[key]}: only what is compared or tuned may have several values; write one value, or "
                f"compare={names if not others else f'[{names}]'}, which tunes every combination"
            )
    return lines


def search_of(search: SearchConfig) -> SearchConfig:
    """Return the search that draws the configurations to try: random or Sobol' points.

    Raise for a search that chooses configurations by their results.
    """
    if search.name not in SEARCHES:
        raise ConfigError(
            f"search={search.name}: with tune, all options try the same configurations, which are drawn in "
            "advance; write search=random or search=sobol, or omit it"
        )
    return replace(search, name="random" if search.name == "grid" else search.name)


def with_fresh(tuned: Tuned, seeds: Sequence[int]) -> Tuned:
    """Return the comparison with its fresh seeds: `seeds` or, if that is one seed, a few from that seed on.

    :data:`FRESH_SEEDS` says how many.
    """
    fresh = tuple(dict.fromkeys(seeds))
    if len(fresh) == 1:
        fresh = tuple(range(fresh[0], fresh[0] + FRESH_SEEDS))
    if (largest := max(fresh)) >= TUNING_SEEDS[0]:
        raise ConfigError(
            f"seed={max(seeds)}: the options would be compared on seeds up to {largest}, but seeds from "
            f"{TUNING_SEEDS[0]} on are for tuning; write smaller ones, as "
            f"'seed=range({max(len(fresh), FRESH_SEEDS)})'"
        )
    return replace(tuned, fresh=fresh)


def _text(names: Any) -> str:
    listed = [*names] if isinstance(names, list | tuple) else [names]
    return str(listed[0]) if len(listed) == 1 else f"[{','.join(map(str, listed))}]"


def level_of(tuned: Tuned, params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the params that say which of the compared options a trial has.

    With ``compare=init`` these are ``init.method``, ``init.gain`` and so on, as pairs (param, value).
    """
    return tuple(sorted((key, params[key]) for key in params if is_of_level(tuned, key)))


def is_of_level(tuned: Tuned, key: str) -> bool:
    """Return whether a param helps to say which of the compared options a trial has.

    With ``compare=init`` the params of the group ``init`` do, such as ``init.method``, except tuned ones,
    such as ``init.gain`` with ``tune=init.gain``. Names of options, such as the param ``init``, never
    count: the other params of the group say what they stand for.

    >>> [is_of_level(Tuned(("init",), ("init.gain",)), key) for key in ("init", "init.method", "init.gain")]
    [False, True, False]
    >>> [is_of_level(Tuned(("arch.hidden",), ()), key) for key in ("arch.hidden", "arch.activation")]
    [True, False]
    """
    names = (key, key.partition(".")[0])
    return any(name in tuned.compare for name in names) and key not in (*tuned.tune, *CHOICES)


def experiment_name(name: str, tuned: Tuned) -> str:
    """Return the name of the MLflow experiment for a comparison in which each option is first tuned.

    >>> experiment_name("digits", Tuned(("init",), ("optimizer.lr",)))
    'digits_init_tuned'
    """
    return "_".join([name, *tuned.compare, "tuned"])
