"""Compose many sets of options from a few compositions of Hydra, for speed.

A plain option, such as ``init=he``, is a file that fills the node of its own group, independently of the
other options. So Hydra composes a grid of plain options only until it has composed each option once: as often
as the longest group has options. For every other set, these compositions supply the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from fnnexp.config import safety
from fnnexp.config.jobs import make_room
from fnnexp.config.schema import SCHEMA
from fnnexp.errors import ConfigError, FnnexpError

MOST_CONFIGS = 1000
"""Maximum number of configs that a defaults list may lead to; the shipped lists lead to a dozen."""

Options = tuple[str, ...]
"""Overrides that choose options, as they are written."""


@dataclass(frozen=True)
class Composed:
    """The composition of a set of options: the config without its ``hydra`` node, and each group's option."""

    config: DictConfig
    choices: Mapping[str, Any]


@dataclass
class _Family:
    """The compositions of all sets of options that differ only in plain options, such as ``init=he``.

    Attributes
    ----------
    first
        The composition of the first set that Hydra composed; None before.
    nodes
        The part of the config that each plain option fills, by group and option, once it is composed.
    expected
        The options of each group that later sets need.
    """

    first: Composed | None = None
    nodes: dict[tuple[str, str], Any] = field(default_factory=dict)
    expected: dict[str, list[str]] = field(default_factory=dict)


class Combinations:
    """Composes sets of options: from parts of earlier compositions where possible, otherwise with Hydra.

    Parameters
    ----------
    compose
        Compose a set of options with Hydra.
    parse
        Parse an override.
    folders
        The folders of configs, in order of precedence.
    primary
        The name of the primary config.
    is_group
        Return whether a key is a group.
    """

    def __init__(
        self,
        compose: Callable[[Options], Composed],
        parse: Callable[[str], Override],
        folders: Sequence[Path],
        primary: str,
        is_group: Callable[[str], bool],
    ) -> None:
        self._compose, self._parse = cache(compose), parse
        self._folders, self._primary, self._is_group = folders, primary, is_group
        self._plain = cache(self._group_and_option)
        self._is_fixed = cache(self._walk)
        self._counts: dict[str, int] = {}
        self._families: dict[tuple[Any, ...], _Family] = {}
        self._known: dict[Options, Composed] = {}

    def expect(self, sets: Iterable[Options]) -> None:
        """Announce the sets that :meth:`of` will be asked for, so that Hydra composes several at once."""
        for options in dict.fromkeys(sets):
            expected = self._family(options).expected
            for group, option in filter(None, map(self._plain, options)):
                if option not in expected.setdefault(group, []):
                    expected[group].append(option)

    def of(self, options: Options) -> Composed:
        """Return the config of a set of options: put together from earlier ones, or composed by Hydra."""
        if options not in self._known:
            make_room(self._known)
            self._known[options] = self._combined(options) or self._compose(options)
        return self._known[options]

    def _combined(self, options: Options) -> Composed | None:
        """Return the composition of a set, made from parts of others; None if Hydra has to compose it."""
        if not self._has_fixed_defaults(options):
            return None
        family = self._family(options)
        chosen = [plain for plain in map(self._plain, options) if plain is not None]
        if any(plain not in family.nodes for plain in chosen):
            try:
                self._compose_into(family, self._with_new_options(family, options))
            except FnnexpError:
                # An option is wrong. If it is one of this set, `of` raises the error. Otherwise it is an
                # option that is composed early, for a later set.
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
        if key not in self._families:
            make_room(self._families)
        return self._families.setdefault(key, _Family())

    def _with_new_options(self, family: _Family, options: Options) -> Options:
        """Return the set, with options that are already composed replaced by options that later sets need.

        So each composition by Hydra yields as many new parts as possible.
        """
        lines = []
        for line in options:
            plain = self._plain(line)
            if plain is not None and plain in family.nodes:
                group, option = plain
                expected = family.expected.get(group, ())
                new = (name for name in expected if (group, name) not in family.nodes)
                line = f"{group}={next(new, option)}"
            lines.append(line)
        return tuple(lines)

    def _compose_into(self, family: _Family, options: Options) -> None:
        """Compose a set of options with Hydra, and keep in `family` the part that each plain option fills."""
        composed = self._compose(options)
        family.first = family.first or composed
        for group, option in filter(None, map(self._plain, options)):
            family.nodes[group, option] = composed.config[group]

    def _group_and_option(self, line: str) -> tuple[str, str] | None:
        """Return the group and the option of an override such as ``init=he``; None if it is not plain.

        An option is plain if its file names no other configs and no package.
        """
        override = self._parse(line)
        group, option = override.key_or_group, override.value()
        plain = override.type is OverrideType.CHANGE and override.package is None and "/" not in group
        if not plain or not isinstance(option, str) or "${" in option:
            return None
        name = f"{group}/{option}"
        file = self._file(name)
        if file is None or self._defaults(name, file) is not None or "@package" in file.read_text("utf-8"):
            return None
        return group, option

    def _has_fixed_defaults(self, options: Options) -> bool:
        """Return whether these options choose the same files, whatever other options are chosen.

        This is false if a default depends on another choice, as in ``init: from_${batching}``, or if
        an option is chosen whose group is deleted.
        """
        names = [self._primary]
        parsed = [self._parse(line) for line in options]
        deleted = {override.key_or_group for override in parsed if override.is_delete()}
        for line, override in zip(options, parsed, strict=True):
            option = override.value()
            if "${" in line or override.package is not None:
                return False
            if self._is_group(override.key_or_group) and not override.is_delete():
                if not isinstance(option, str) or override.key_or_group in deleted:
                    return False
                names.append(f"{override.key_or_group}/{option}")
        return all(map(self._is_fixed, names))

    def _walk(self, name: str) -> bool:
        """Return whether a config and all configs that its defaults list leads to are files with fixed names.

        Names with references, such as ``from_${batching}``, are not fixed. Entries of unknown kinds
        count as not fixed; then Hydra composes every set.
        """
        file = self._file(name)
        if file is None:
            return False
        defaults = self._defaults(name, file)
        if defaults is not None and not isinstance(defaults, list):
            return False
        return all(self._is_fixed_default(default, name.rpartition("/")[0]) for default in defaults or [])

    def _is_fixed_default(self, default: Any, group: str) -> bool:
        """Return whether an entry of a defaults list names a config for which :meth:`_walk` returns True.

        `group` is the group of the config that has the list.
        """
        if isinstance(default, str):
            names = [default]
        elif isinstance(default, dict) and len(default) == 1:
            ((key, option),) = default.items()
            key = re.sub(r"^override ", "", str(key))
            if key.lstrip("/").startswith("hydra/") or option is None:
                return True  # the entry is for Hydra, or it selects no option
            if not isinstance(option, str):
                return False
            names = [f"{key}/{option}"]
        else:
            return False
        (name,) = names
        if name in ("_self_", SCHEMA):
            return True
        if not re.fullmatch(r"/?[\w./-]+", name):  # a reference, a package, or an optional config
            return False
        return self._is_fixed(name.lstrip("/") if name.startswith("/") or not group else f"{group}/{name}")

    def refuse_endless(self, names: Iterable[str]) -> None:
        """Raise if a config's defaults lists lead to thousands of configs: Hydra would never finish.

        Raises
        ------
        ConfigError
            With the config, and how many configs are allowed.
        """
        for name in names:
            if self._count(name, ()) > MOST_CONFIGS:
                raise ConfigError(
                    f"the defaults of '{name}' lead to more than {MOST_CONFIGS} configs, as when files name "
                    "each other twice; name each config once"
                )

    def _count(self, name: str, above: tuple[str, ...]) -> int:
        """Return the number of configs that a config leads to through its defaults, including itself."""
        if name not in self._counts and name not in above:
            file, group = self._file(name), name.rpartition("/")[0]
            defaults = self._defaults(name, file) if file is not None else None
            below = [
                inner
                for default in (defaults if isinstance(defaults, list) else ())
                for inner in self._named_by(default, group)
            ]
            self._counts[name] = 1 + sum(self._count(inner, (*above, name)) for inner in below)
        return self._counts.get(name, 1)

    def _named_by(self, default: Any, group: str) -> list[str]:
        """Return the configs that an entry of a defaults list can name.

        `group` is the group of the config that has the list.
        """
        if isinstance(default, dict) and len(default) == 1:
            ((key, options),) = default.items()
        else:
            key, options = "", default
        start = str(key).split(" ")[-1].partition("@")[0]
        names = []
        for option in options if isinstance(options, list) else [options]:
            without_package = str(option).partition("@")[0]
            name = f"{start}/{without_package}" if start else without_package
            names.append(f"{group}/{name}" if group and not name.startswith("/") else name.lstrip("/"))
        return [match for name in names for match in self._matching(name)]

    def _matching(self, name: str) -> list[str]:
        """Return the configs that a name can mean: itself or, if it has a reference, all of its group."""
        if "${" not in name:
            return [name]
        group = name[: name.index("${")].rpartition("/")[0]
        return [
            f"{group}/{file.stem}" for folder in self._folders for file in (folder / group).glob("*.yaml")
        ]

    def _file(self, name: str) -> Path | None:
        """Return the file of a config; None if the name is a schema's or unknown."""
        files = (folder / f"{name.removesuffix('.yaml')}.yaml" for folder in self._folders)
        return next((file for file in files if file.is_file()), None)

    def _defaults(self, name: str, file: Path) -> Any:
        """Return a config's defaults list, unresolved; None if it has none."""
        content: Any = OmegaConf.to_container(safety.load(file, name.rpartition("/")[0]), resolve=False)
        return content.get("defaults") if isinstance(content, dict) else None
