"""Law 1: imports go in one direction, and each outside library is imported by few modules.

These tests read the source code only.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fnnexp", "hydra_plugins")


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """Return the modules that a module imports, also inside functions and for type checkers only."""
    imported = set()
    for node in ast.walk(ast.parse(FILES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            # `from fnnexp import data` is of a module, `from fnnexp.data import load` is of a name in it.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if name in FILES}
            imported |= modules
            if len(modules) < len(names):
                imported.add(str(node.module))
    return frozenset(imported - {"__future__"})


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if within(name, *PACKAGES)}


def libraries(module: str) -> set[str]:
    """Return the outside libraries that a module imports, without the standard library."""
    return {name.partition(".")[0] for name in imports(module) - own_imports(module)} - set(
        sys.stdlib_module_names
    )


def modules_in(*packages: str) -> list[str]:
    modules = [module for module in FILES if within(module, *packages)]
    assert modules, f"there is no {', '.join(packages)}"
    return modules


# From the lowest layer up. A package imports itself and lower layers, never a package of its own layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("fnnexp.errors",),
    ("fnnexp.console",),
    ("fnnexp.nn", "fnnexp.data"),
    ("fnnexp.pieces",),
    ("fnnexp.config",),
    ("fnnexp.tracking",),
    ("fnnexp.results",),
    ("fnnexp.sweeping", "fnnexp.reporting"),
    ("fnnexp.sweeping.search", "fnnexp.mapping"),
    ("fnnexp.api",),
    ("fnnexp.cli",),
    ("fnnexp.__main__", "hydra_plugins"),
)
LAYER = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def package_of(module: str) -> str:
    packages = [name for name in LAYER if within(module, name)]
    assert packages, f"{module} is new: add its package to LAYERS"
    return max(packages, key=len)


@pytest.mark.parametrize("module", [module for module in FILES if module != "fnnexp"])
def test_imports_go_in_one_direction(module: str) -> None:
    package = package_of(module)
    others = {name for name in own_imports(module) if name != "fnnexp" and package_of(name) != package}
    upward = {name for name in others if LAYER[package_of(name)] >= LAYER[package]}
    assert not upward, f"{module} imports {', '.join(sorted(upward))}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {
        module: {name for name in own_imports(module) if name in FILES} - {module, "fnnexp"}
        for module in FILES
    }
    del waiting["fnnexp"]  # it imports its public names lazily
    while free := {module for module, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {module: needs for module, needs in waiting.items() if module not in free}
    assert not waiting


@pytest.mark.parametrize("folder", sorted({f.parent for f in FILES.values()}), ids=lambda folder: folder.name)
def test_a_folder_has_few_entries(folder: Path) -> None:
    entries = [path for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"]
    files = [path for path in entries if path.is_file() and path.name != "__main__.py"]
    folders = [path for path in entries if path.is_dir() and path.name != "__pycache__"]
    if folder == ROOT / "fnnexp":
        assert len(files) <= 5
        assert len(folders) <= 9
        return
    assert len(files) - 1 + len(folders) <= 12  # not counted: __init__.py and __main__.py


def test_the_design_page_names_every_module() -> None:
    layout = (
        (ROOT / "docs" / "design.md").read_text("utf-8").partition("## The layout")[2].partition("```\n")[2]
    )
    words = set(re.findall(r"[a-z_0-9]+", layout.partition("```")[0]))
    modules = {module.rpartition(".")[2] for module in FILES if within(module, "fnnexp")}
    assert modules - {"fnnexp", "__main__"} <= words


def test_no_public_name_is_the_name_of_a_folder() -> None:
    """An imported folder becomes an attribute of the package and would hide a function of the same name."""
    import fnnexp

    assert not {path.stem for path in (ROOT / "fnnexp").iterdir()} & set(fnnexp._DEFINED_IN)


def test_the_package_imports_only_the_modules_of_its_public_names() -> None:
    import fnnexp

    assert own_imports("fnnexp") == set(fnnexp._DEFINED_IN.values())
    assert sorted([*fnnexp._DEFINED_IN, "__version__"]) == sorted([*fnnexp.__all__, "map"]) == dir(fnnexp)
    for name, home in fnnexp._DEFINED_IN.items():
        assert getattr(fnnexp, name).__module__ == home


@pytest.mark.parametrize("module", modules_in("fnnexp.nn"))
def test_nn_imports_numpy_and_nothing_else(module: str) -> None:
    compilers = {"numba", "llvmlite"} if module == "fnnexp.nn.engines.numba_engine" else set()
    assert libraries(module) <= {"numpy", "scipy"} | compilers
    assert {name for name in imports(module) if within(name, "scipy")} <= {"scipy.linalg.blas"}
    # It uses no files, no processes and no network.
    assert not imports(module) & {"os", "io", "pathlib", "pickle", "socket", "subprocess", "multiprocessing"}


@pytest.mark.parametrize("module", modules_in("fnnexp.data"))
def test_data_imports_nothing_about_experiments(module: str) -> None:
    assert libraries(module) <= {"numpy", "pandas", "pooch", "sklearn", "platformdirs", "rich", "PIL"}


COMPOSING = ["fnnexp.config"]
SEAMS = {
    "omegaconf": COMPOSING,
    "hydra": [*COMPOSING, "hydra_plugins", "fnnexp.results.filters"],
    "mlflow": ["fnnexp.tracking", "fnnexp.results.frames"],
    "sqlalchemy": ["fnnexp.tracking.sql"],
    "cloudpickle": ["fnnexp.pieces.registry", "fnnexp.pieces.outside"],
    "joblib": ["fnnexp.sweeping.executor", "fnnexp.sweeping.backends.loky"],
    "dask": ["fnnexp.sweeping.backends.dask"],
    "distributed": ["fnnexp.sweeping.backends.dask"],
    "ray": ["fnnexp.sweeping.backends.ray"],
    "threadpoolctl": ["fnnexp.results.networks.one_thread"],
    "matplotlib": ["fnnexp.reporting.plots", "fnnexp.mapping.picture", "fnnexp.mapping.lr.picture"],
    "IPython": ["fnnexp.console"],
    "sklearn": ["fnnexp.data.datasets", "fnnexp.results.networks.classifier"],
    "optuna": [
        "fnnexp.sweeping.search.tpe",
        "fnnexp.sweeping.search.study",
        "fnnexp.reporting.sections.by_factor.importance",
    ],
    "pooch": ["fnnexp.data.download"],
    "PIL": ["fnnexp.data.image_files", "fnnexp.reporting.plots.picture"],
}


@pytest.mark.parametrize("library", SEAMS)
def test_an_outside_library_is_imported_only_by_its_modules(library: str) -> None:
    users = {module for module in FILES if any(within(name, library) for name in used_libraries(module))}
    assert not {module for module in users if not within(module, *SEAMS[library])}


def used_libraries(module: str) -> set[str]:
    """Return the imports of a module, without exceptions, which any module may catch."""
    return {name for name in imports(module) if not name.endswith((".errors", ".exceptions"))}


WRITES = {
    "create_experiment", "create_run", "delete_run", "delete_tag", "log_artifact", "log_artifacts",
    "log_batch", "log_dict", "log_figure", "log_metric", "log_metrics", "log_param", "log_params",
    "log_text", "restore_run", "set_experiment", "set_experiment_tag", "set_tag", "set_tags",
    "set_terminated", "start_run", "update_run",
}  # fmt: skip


def test_only_tracking_writes_to_mlflow() -> None:
    writers = {
        module
        for module, file in FILES.items()
        if any(within(name, "mlflow") for name in imports(module))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in WRITES
    }
    assert writers == {f"fnnexp.tracking.{name}" for name in ("writer", "experiment", "artifacts")}


@pytest.mark.parametrize(
    "module",
    [
        f"fnnexp.sweeping.{name}"
        for name in ("worker", "plan", "executor", "backends.cluster", "backends.dask", "backends.ray")
    ],
)
def test_modules_of_workers_import_neither_mlflow_nor_hydra(module: str) -> None:
    """Law 3, as far as imports show: check all modules of fnnexp that a worker loads."""
    loaded, waiting = set(), [module]
    while waiting:
        if (imported := waiting.pop()) not in loaded:
            loaded.add(imported)
            waiting += [name for name in own_imports(imported) if name in FILES and name != "fnnexp"]
    assert not {"mlflow", "omegaconf", "hydra"} & {library for name in loaded for library in libraries(name)}
    assert not [
        name
        for name in loaded
        if within(name, "fnnexp.tracking", "fnnexp.config.schema", "fnnexp.sweeping.loop")
    ]


def test_only_the_numba_engine_imports_numba() -> None:
    """Numba is an extra: everything else works without it."""
    users = [module for module in FILES if "fnnexp.nn.engines.numba_engine" in own_imports(module)]
    assert users == ["fnnexp.nn.engines.base"]
    top = ast.parse(FILES["fnnexp.nn.engines.base"].read_text("utf-8")).body
    assert not [
        node for node in top if isinstance(node, ast.ImportFrom) and "numba_engine" in ast.unparse(node)
    ]


def test_the_start_of_a_command_imports_no_library() -> None:
    """These modules import only the standard library at the top, so that `fnnexp --help` is fast."""
    for module in ("fnnexp", "fnnexp.cli", "fnnexp.errors"):
        top = ast.parse(FILES[module].read_text("utf-8")).body
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
        first = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
        assert first <= {"fnnexp"}, module


def test_imports_are_found_anywhere_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "probe.py"
    file.write_text(
        "import numpy as np\nfrom fnnexp.data import datasets\nfrom fnnexp import __version__\n"
        "from fnnexp.nn.network import forward\n"
        "def late():\n    import mlflow.tracking\n    from os import path\n"
    )
    monkeypatch.setitem(FILES, "probe", file)
    assert own_imports("probe") == {"fnnexp", "fnnexp.data.datasets", "fnnexp.nn.network"}
    assert libraries("probe") == {"numpy", "mlflow"}
