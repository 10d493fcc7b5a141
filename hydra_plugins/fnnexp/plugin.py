"""How Hydra finds fnnexp: its search path, and a sweeper and a launcher that hand a whole sweep over at once.

Every Hydra app on the machine imports this module, so it imports nothing heavy and does nothing for apps
that are not fnnexp: the search path stays as it is, and the launcher runs other task functions one by one,
as Hydra's own does.
"""

# No `from __future__ import annotations`: Hydra executes this module without registering it, and dataclasses
# then can't look annotations up.

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.search_path_plugin import SearchPathPlugin

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.utils import JobReturn

MOST_JOBS = 10_000
"""As many jobs as a sweep may have; each is composed and kept until all are done."""

SCHEMA = "schema.yaml"
"""What fnnexp.config has stored when the running app is fnnexp."""


class FnnexpSearchPath(SearchPathPlugin):
    """Puts ``conf/`` and ``sweeps/`` behind what the app and the command line name."""

    def manipulate_search_path(self, search_path: "ConfigSearchPath") -> None:
        """Append the folders of fnnexp, for fnnexp only."""
        if SCHEMA not in ConfigStore.instance().repo:
            return
        from fnnexp.config.schema import conf_folder, sweeps_folder

        there = [Path(element.path.removeprefix("file://")) for element in search_path.get_path()]
        for folder in (conf_folder(), sweeps_folder()):
            if folder not in there:
                search_path.append("fnnexp", f"file://{folder.as_posix()}")


class FnnexpSweeper(BasicSweeper):
    """Hydra's grid without its rehearsal and its multirun.yaml, when the task function is fnnexp's.

    The launcher composes every job before any starts, and what ran stands in MLflow.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Return the launcher's returns, a list for each batch."""
        if not hasattr(getattr(self.launcher, "task_function", None), "many"):
            return super().sweep(arguments)
        assert self.hydra_context is not None
        assert self.launcher is not None
        from fnnexp.config.safety import one_option_each

        words = [*self._parse_config(), *arguments]
        one_option_each(words)
        overrides = OverridesParser.create(config_loader=self.hydra_context.config_loader).parse_overrides(
            words
        )
        refuse_too_many(overrides)
        batches = self.split_arguments(overrides, self.max_batch_size)
        refuse_none(batches, overrides)
        return [self.launcher.launch(batch, initial_job_idx=0) for batch in batches]


def refuse_too_many(overrides: Sequence[Override]) -> None:
    """Refuse a grid of too many jobs by counting, before any list of them is made.

    Raises
    ------
    ConfigError
        When there are more than ``MOST_JOBS``.
    """
    from fnnexp.config.safety import values_by_key
    from fnnexp.errors import ConfigError

    counts = values_by_key(overrides)
    if math.prod(counts.values()) > MOST_JOBS:
        largest = max(counts, key=lambda key: counts[key])
        raise ConfigError(
            f"the sweep has more than {MOST_JOBS} jobs, most of them by {largest}; write fewer values"
        )


def refuse_none(batches: Sequence[Sequence[Sequence[str]]], overrides: Sequence[Override]) -> None:
    """Refuse a grid without a job: one of its keys has no values, such as a glob that fits no option."""
    from fnnexp.errors import ConfigError

    if not any(batches):
        said = " ".join(str(override.input_line) for override in overrides)
        raise ConfigError(f"the sweep has no jobs, as a key has no values: {said}")


class FnnexpLauncher(BasicLauncher):
    """Hands all jobs at once to a task function that has ``many``; runs any other as Hydra's own does."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> "Sequence[JobReturn]":
        """Return one JobReturn a job, in order."""
        many = getattr(self.task_function, "many", None)
        if many is None:
            return super().launch(job_overrides, initial_job_idx)
        assert self.hydra_context is not None
        assert self.config is not None
        return list(many(self.hydra_context.config_loader, self.config, job_overrides))


@dataclass
class SweeperConf:
    """The sweeper's node."""

    _target_: str = "hydra_plugins.fnnexp.plugin.FnnexpSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = field(default_factory=dict)


@dataclass
class LauncherConf:
    """The launcher's node."""

    _target_: str = "hydra_plugins.fnnexp.plugin.FnnexpLauncher"


ConfigStore.instance().store(group="hydra/sweeper", name="fnnexp", node=SweeperConf, provider="fnnexp")
ConfigStore.instance().store(group="hydra/launcher", name="fnnexp", node=LauncherConf, provider="fnnexp")
