"""Compositions of many sets of options, put together from a few.

A plain option, such as ``init=he``, is a file that fills the node of its own group, whatever the other
options are. So Hydra composes a grid of plain options only until each option has been met once: as often as
the longest group has options. Every other set is the first with the nodes of its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from fnnexp.config import safety
from fnnexp.errors import FnnexpError

Options = tuple[str, ...]
"""Overrides that choose options, each as it is written."""


@dataclass(frozen=True)
class Composed:
    """What Hydra composed of a set of options: the config without Hydra's node, and the options chosen."""

    config: DictConfig
    choices: Mapping[str, Any]


@dataclass
class _Family:
    """Sets of options that differ in plain options alone.

    Attributes
    ----------
    first
        The composition of one of them.
    nodes
        The node of each plain option, by group and option.
    expected
        The options of each group that will be asked for.
    """

    first: Composed | None = None
    nodes: dict[tuple[str, str], Any] = field(default_factory=dict)
    expected: dict[str, list[str]] = field(default_factory=dict)


class Combinations:
    """The compositions of a command's sets of options.

    Parameters
    ----------
    compose
        Composes a set by Hydra.
    parse
        Parses one override.
    folders
        Where configs lie, the first one first.
    primary
        The name of the primary config.
    """

    def __init__(
        self,
        compose: Callable[[Options], Composed],
        parse: Callable[[str], Override],
        folders: Sequence[Path],
        primary: str,
    ) -> None:
        self._compose, self._parse = cache(compose), parse
        self._folders, self._primary = folders, primary
        self._plain = cache(self._group_and_option)
        self._is_fixed = cache(self._walk)
        self._families: dict[tuple[Any, ...], _Family] = {}
        self._known: dict[Options, Composed] = {}

    def expect(self, sets: Iterable[Options]) -> None:
        """Announce the sets that will be asked for: then a composition meets as many new ones as it can."""
        for options in dict.fromkeys(sets):
            expected = self._family(options).expected
            for group, option in filter(None, map(self._plain, options)):
                if option not in expected.setdefault(group, []):
                    expected[group].append(option)

    def of(self, options: Options) -> Composed:
        """Return the composition of a set."""
        if options not in self._known:
            self._known[options] = self._combined(options) or self._compose(options)
        return self._known[options]

    def _combined(self, options: Options) -> Composed | None:
        """Return a set put together from others, or None where Hydra has to compose it."""
        if not self._has_fixed_defaults(options):
            return None
        family = self._family(options)
        chosen = [each for each in map(self._plain, options) if each is not None]
        if any(each not in family.nodes for each in chosen):
            try:
                self._meet(family, self._with_unmet(family, options))
            except FnnexpError:  # another set's fault, or this one's, which Hydra then tells
                return None
        if family.first is None:
            return None
        config, choices = family.first.config.copy(), dict(family.first.choices)
        for group, option in chosen:
            config[group] = family.nodes[group, option]
            choices[group] = option
        return Composed(config, choices)

    def _family(self, options: Options) -> _Family:
        key = tuple(plain[0] if (plain := self._plain(line)) else (line,) for line in options)
        return self._families.setdefault(key, _Family())

    def _with_unmet(self, family: _Family, options: Options) -> Options:
        """Return the set with options in place of its own that were met, where others are still to be met."""
        lines = []
        for line in options:
            plain = self._plain(line)
            if plain is not None and plain in family.nodes:
                group, option = plain
                unmet = (each for each in family.expected.get(group, ()) if (group, each) not in family.nodes)
                line = f"{group}={next(unmet, option)}"
            lines.append(line)
        return tuple(lines)

    def _meet(self, family: _Family, options: Options) -> None:
        """Have a set composed, and keep the nodes of its plain options."""
        composed = self._compose(options)
        family.first = family.first or composed
        for group, option in filter(None, map(self._plain, options)):
            family.nodes[group, option] = composed.config[group]

    def _group_and_option(self, line: str) -> tuple[str, str] | None:
        """Return the group and the option of a plain option; None for any other override."""
        override = self._parse(line)
        group, option = override.key_or_group, override.value()
        plain = override.type is OverrideType.CHANGE and override.package is None and "/" not in group
        if not plain or not isinstance(option, str) or "${" in option:
            return None
        file = self._file(f"{group}/{option}")
        if file is None or "@package" in file.read_text("utf-8") or self._defaults(file):
            return None
        return group, option

    def _has_fixed_defaults(self, options: Options) -> bool:
        """Whether no default follows from another choice, as in ``init: from_${batching}``."""
        if any("${" in line for line in options):
            return False
        chosen = [f"{(each := self._parse(line)).key_or_group}/{each.value()}" for line in options]
        return all(map(self._is_fixed, [self._primary, *chosen]))

    def _walk(self, name: str) -> bool:
        """Whether neither a config nor those that its defaults list names have a reference in that list."""
        file = self._file(name)
        for default in (file and self._defaults(file)) or []:
            if "${" in str(default):
                return False
            named = [default] if isinstance(default, str) else [f"{k}/{v}" for k, v in default.items()]
            names = [each.removeprefix("override ").lstrip("/").partition("@")[0] for each in named]
            beside = [f"{name.rpartition('/')[0]}/{each}" for each in names]  # or relative to its own group
            if not all(self._is_fixed(each) for each in (*names, *beside) if each.strip("/") != name):
                return False
        return True

    def _file(self, name: str) -> Path | None:
        """Return the file of a config, or None: a name may be that of a schema, or of nothing."""
        files = (folder / f"{name.removesuffix('.yaml')}.yaml" for folder in self._folders)
        return next((file for file in files if file.is_file()), None)

    def _defaults(self, file: Path) -> Any:
        """Return a file's defaults list as it is written; None if it has none."""
        written: Any = OmegaConf.to_container(safety.load(file), resolve=False)
        return written.get("defaults") if isinstance(written, dict) else None
