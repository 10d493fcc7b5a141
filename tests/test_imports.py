"""Law 1: imports go one way, and each outside library has its seam. Read from the source alone."""

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
    """The modules that one imports, anywhere in it: also inside functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            # `from fnnexp import data` names a module, `from fnnexp.data import load` something in one.
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name in FILES}
            found |= modules
            if len(modules) < len(inner):
                found.add(str(node.module))
    return frozenset(found - {"__future__"})


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if within(name, *PACKAGES)}


def outside(module: str) -> set[str]:
    """The outside libraries of a module, by their first name."""
    return {name.partition(".")[0] for name in imports(module) - ours(module)} - set(sys.stdlib_module_names)


def those(*packages: str) -> list[str]:
    found = [module for module in FILES if within(module, *packages)]
    assert found, f"there is no {', '.join(packages)}"
    return found


# From the ground up. A room imports what stands below it, and what is in it; never what stands beside it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("fnnexp.errors",),
    ("fnnexp.console",),
    ("fnnexp.nn", "fnnexp.data"),
    ("fnnexp.config",),
    ("fnnexp.tracking",),
    ("fnnexp.results",),
    ("fnnexp.sweeping", "fnnexp.reporting"),
    ("fnnexp.api",),
    ("fnnexp.cli",),
    ("fnnexp.__main__", "hydra_plugins"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(module: str) -> str:
    rooms = [name for name in FLOOR if within(module, name)]
    assert rooms, f"{module} is new: say in FLOORS where it stands"
    return max(rooms, key=len)


@pytest.mark.parametrize("module", [module for module in FILES if module != "fnnexp"])
def test_imports_go_one_way(module: str) -> None:
    here = room(module)
    others = {name for name in ours(module) if name != "fnnexp" and room(name) != here}
    up = {name for name in others if FLOOR[room(name)] >= FLOOR[here]}
    assert not up, f"{module} imports {', '.join(sorted(up))}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {
        module: {name for name in ours(module) if name in FILES} - {module, "fnnexp"} for module in FILES
    }
    del waiting["fnnexp"]  # the package's face imports lazily what defines its names
    while free := {module for module, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {module: needs for module, needs in waiting.items() if module not in free}
    assert not waiting


@pytest.mark.parametrize("room", sorted({file.parent for file in FILES.values()}), ids=lambda room: room.name)
def test_a_folder_can_be_taken_in_at_a_glance(room: Path) -> None:
    inside = [path for path in room.iterdir() if path.is_dir() or path.suffix == ".py"]
    files = [path for path in inside if path.is_file()]
    folders = [path for path in inside if path.is_dir() and path.name != "__pycache__"]
    if room == ROOT / "fnnexp":
        assert len(files) <= 6
        assert len(folders) <= 8
    assert len(files) - 1 + len(folders) <= 12  # not counted: __init__.py


def test_the_design_names_every_module_and_no_other() -> None:
    layout = (
        (ROOT / "docs" / "design.md").read_text("utf-8").partition("## The layout")[2].partition("```\n")[2]
    )
    words = set(re.findall(r"[a-z_0-9]+", layout.partition("```")[0]))
    modules = {module.rpartition(".")[2] for module in FILES if within(module, "fnnexp")}
    assert modules - {"fnnexp", "__main__"} <= words


def test_no_public_name_is_a_folders_name() -> None:
    """A folder that is imported becomes an attribute of the package, and would hide the function."""
    import fnnexp

    assert not {path.stem for path in (ROOT / "fnnexp").iterdir()} & set(fnnexp._HOMES)


def test_the_package_itself_imports_only_where_its_names_are_defined() -> None:
    import fnnexp

    assert ours("fnnexp") == set(fnnexp._HOMES.values())
    assert sorted([*fnnexp._HOMES, "__version__"]) == sorted(fnnexp.__all__) == dir(fnnexp)
    for name, home in fnnexp._HOMES.items():
        assert getattr(fnnexp, name).__module__ == home


@pytest.mark.parametrize("module", those("fnnexp.nn"))
def test_the_numbers_know_numpy_and_nothing_else(module: str) -> None:
    compilers = {"numba", "llvmlite"} if module == "fnnexp.nn.engines.numba_engine" else set()
    assert outside(module) <= {"numpy", "scipy"} | compilers
    assert {name for name in imports(module) if within(name, "scipy")} <= {"scipy.linalg.blas"}
    # Nor files, processes or the network.
    assert not imports(module) & {"os", "io", "pathlib", "pickle", "socket", "subprocess", "multiprocessing"}


@pytest.mark.parametrize("module", those("fnnexp.data"))
def test_data_knows_files_and_no_experiment(module: str) -> None:
    assert outside(module) <= {"numpy", "pandas", "pooch", "sklearn", "platformdirs", "rich"}


COMPOSING = ["fnnexp.config"]
SEAMS = {
    "omegaconf": COMPOSING,
    "hydra": [*COMPOSING, "hydra_plugins", "fnnexp.results.filters"],
    "mlflow": ["fnnexp.tracking", "fnnexp.results.frames"],
    "sqlalchemy": ["fnnexp.tracking.sql"],
    "joblib": ["fnnexp.sweeping.executor", "fnnexp.sweeping.backends.loky"],
    "dask": ["fnnexp.sweeping.backends.dask"],
    "distributed": ["fnnexp.sweeping.backends.dask"],
    "ray": ["fnnexp.sweeping.backends.ray"],
    "threadpoolctl": ["fnnexp.sweeping.worker"],
    "matplotlib": ["fnnexp.reporting.plots"],
    "IPython": ["fnnexp.console"],
    "sklearn": ["fnnexp.data.datasets"],
    "pooch": ["fnnexp.data.download"],
}


@pytest.mark.parametrize("library", SEAMS)
def test_an_outside_library_is_reached_through_its_seam_alone(library: str) -> None:
    users = {module for module in FILES if any(within(name, library) for name in caught_apart(module))}
    assert not {module for module in users if not within(module, *SEAMS[library])}


def caught_apart(module: str) -> set[str]:
    """The imports of a module without libraries' exceptions: who catches one does not use the library."""
    return {name for name in imports(module) if not name.endswith((".errors", ".exceptions"))}


WRITES = {
    "create_experiment", "create_run", "delete_run", "delete_tag", "log_artifact", "log_artifacts",
    "log_batch", "log_dict", "log_figure", "log_metric", "log_metrics", "log_param", "log_params",
    "log_text", "restore_run", "set_experiment", "set_experiment_tag", "set_tag", "set_tags",
    "set_terminated", "start_run", "update_run",
}  # fmt: skip


def test_tracking_alone_writes_to_mlflow() -> None:
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
def test_what_runs_in_a_worker_writes_nothing_and_composes_nothing(module: str) -> None:
    """Law 3, as far as imports show it: through all that a worker loads of ours."""
    loaded, waiting = set(), [module]
    while waiting:
        if (one := waiting.pop()) not in loaded:
            loaded.add(one)
            waiting += [name for name in ours(one) if name in FILES and name != "fnnexp"]
    assert not {"mlflow", "omegaconf", "hydra"} & {library for one in loaded for library in outside(one)}
    assert not [
        one
        for one in loaded
        if within(one, "fnnexp.tracking", "fnnexp.config.schema", "fnnexp.sweeping.loop")
    ]


def test_numba_is_imported_where_its_engine_is_asked_for_and_nowhere_else() -> None:
    """It is an extra: without it everything else works."""
    users = [module for module in FILES if "fnnexp.nn.engines.numba_engine" in ours(module)]
    assert users == ["fnnexp.nn.engines.base"]
    top = ast.parse(FILES["fnnexp.nn.engines.base"].read_text("utf-8")).body
    assert not [
        node for node in top if isinstance(node, ast.ImportFrom) and "numba_engine" in ast.unparse(node)
    ]


def test_the_start_imports_no_library() -> None:
    """`fnnexp --help` answers in under a second: at the top of these stands the standard library alone."""
    for module in ("fnnexp", "fnnexp.cli", "fnnexp.errors"):
        top = ast.parse(FILES[module].read_text("utf-8")).body
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
        first = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
        assert first <= {"fnnexp"}, module


def test_an_import_is_seen_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "probe.py"
    file.write_text(
        "import numpy as np\nfrom fnnexp.data import datasets\nfrom fnnexp import __version__\n"
        "from fnnexp.nn.network import forward\n"
        "def late():\n    import mlflow.tracking\n    from os import path\n"
    )
    monkeypatch.setitem(FILES, "probe", file)
    assert ours("probe") == {"fnnexp", "fnnexp.data.datasets", "fnnexp.nn.network"}
    assert outside("probe") == {"numpy", "mlflow"}
