"""Plugins by which Hydra finds and reads fnnexp's configs: a search path, and a reader that checks each file.

Every Hydra app on the machine imports this module, so it imports nothing large. It has no effect on other
apps: it leaves their search path unchanged, and no path of theirs starts with ``fnnexp://``.
"""

# No `from __future__ import annotations`: Hydra executes this module before adding it to sys.modules, where
# Python would look up annotations that are strings.

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional  # noqa: UP035 - Hydra's own signature

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath


class FnnexpSearchPath(SearchPathPlugin):
    """Add ``conf/`` and ``sweeps/`` to the search path, read by :class:`FnnexpSource`."""

    def manipulate_search_path(self, search_path: "ConfigSearchPath") -> None:
        """Add fnnexp's folders if Hydra is composing for fnnexp."""
        safety = sys.modules.get("fnnexp.config.safety")
        if safety is None or not safety.is_composing_for_fnnexp():
            return
        from fnnexp.config.safety import address
        from fnnexp.config.schema import conf_folder, sweeps_folder

        for element in search_path.get_path():
            if element.provider == "main":
                element.path = address(element.path)
        existing = [element.path for element in search_path.get_path()]
        for folder in (conf_folder(), sweeps_folder()):
            if address(str(folder)) not in existing:
                search_path.append("fnnexp", address(str(folder)))


class FnnexpSource(ConfigSource):
    """A folder of YAML files, each of which is checked before Hydra reads it."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the paths that this class reads: the part before ``://``."""
        return "fnnexp"

    def load_config(self, config_path: str) -> ConfigResult:
        """Check a file and return its content; see :func:`fnnexp.config.safety.load`."""
        from fnnexp.config.safety import load

        file = self._file(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {file}")
        config = load(file, os.path.dirname(config_path))  # noqa: PTH120 - Hydra's names have slashes
        header = self._get_header_dict(file.read_text("utf-8")[:512])
        return ConfigResult(config=config, path=self.full_path(), provider=self.provider, header=header)

    def available(self) -> bool:
        """Return whether the folder exists."""
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        """Return whether the folder contains this subfolder."""
        return self._path_of(config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Return whether the folder contains this file."""
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: Optional[ObjectType]) -> List[str]:  # noqa: UP006, UP045
        """Return the names of the folders and files in a subfolder."""
        names: list[str] = []
        for path in self._path_of(config_path).iterdir():
            inner = f"{config_path}/{path.name}" if config_path else path.name
            self._list_add_result(names, inner, path.name, results_filter)
        return sorted(set(names))

    def _file(self, config_path: str) -> Path:
        return self._path_of(self._normalize_file_name(config_path))

    def _path_of(self, config_path: str) -> Path:
        from fnnexp.config.safety import refuse_outside

        refuse_outside(config_path, self.path)
        return Path(self.path, config_path)
