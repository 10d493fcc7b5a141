"""Files and names from strangers cannot run code, write elsewhere, read secrets, open ports or download."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.conf import HydraConf, JobConf
from omegaconf import OmegaConf

import fnnexp
from fnnexp import api
from fnnexp.config import commands, safety
from fnnexp.data import datasets as data
from fnnexp.data import download
from fnnexp.errors import FnnexpError, quoted
from fnnexp.sweeping.terminal import dry_run

YAML_TRAPS = [
    "!!python/object/apply:os.system ['touch SPRUNG']",
    "!!python/object/new:os.system ['touch SPRUNG']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:pathlib.Path ['SPRUNG']",
    "!!python/object/apply:builtins.open ['SPRUNG', 'w']",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['SPRUNG']",
    "!anything 3",
    "!!binary aGVsbG8=",
]
CODE = {
    "callbacks": "{it: {_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [SPRUNG]}}}",
    "hydra_logging": "{version: 1, handlers: {it: {class: logging.FileHandler, filename: SPRUNG}}}",
    "job_logging": "{version: 1, handlers: {it: {(): logging.FileHandler, filename: SPRUNG}}}",
    "launcher": "{_target_: os.system, command: touch SPRUNG}",
    "sweeper": "{it: {_target_: os.mkdir, _args_: [SPRUNG]}}",
    "searchpath": "['pkg://stranger']",
    "job": "{env_set: {PATH: SPRUNG}}",
    "run": "{dir: ../SPRUNG}",
    "sweep": "{dir: ../SPRUNG}",
    "output_subdir": "../SPRUNG",
}
"""Keys of the node `hydra`, each with a value that Hydra itself would act on."""

NAMES = [
    "../outside",
    "../../outside",
    "/tmp/outside",
    "C:/outside",
    "C:\\outside",
    "\\\\host\\share",
    "..",
    ".",
    "a/../../b",
    "NUL",
    "con",
    "aux.txt",
    "COM1",
    "lpt9.html",
    "~",
    "~/outside",
    "$HOME/x",
    "%TEMP%",
    "a:b",
    "x" * 200,
    "-rf",
    "...",
]
SOME_NAMES = ["../outside", "/tmp/outside", "C:\\outside", "..", "a/../../b", "NUL", "~/outside", "-rf"]


@pytest.fixture
def folder(tmp_path, monkeypatch, shared_cache):
    """Work in a nested folder, with an importable package `stranger`; return the folder."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "__init__.py").write_text(f"open({str(tmp_path / 'outer' / 'SPRUNG')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())
    return inner


def all_files(folder):
    """Return the names of all files in the folder and beside it."""
    return sorted(str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*"))


def write_config(folder, name, text):
    """Write a config into a folder outside of the working folder, and return the words that select it."""
    file = folder.parent.parent / "mine" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return ["-cd", str(folder.parent.parent / "mine")]


# --- no code runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trap", YAML_TRAPS)
@pytest.mark.parametrize("where", ["primary", "group", "defaults"])
def test_a_yaml_tag_is_refused_in_every_config_file(where, trap, folder, invoke):
    if where == "primary":
        words = [
            *write_config(folder, "bad.yaml", f"defaults: [config, _self_]\nseed: {trap}\n"),
            "-cn",
            "bad",
        ]
    elif where == "group":
        words = [*write_config(folder, "arch/bad.yaml", f"hidden: [3]\nactivation: {trap}\n"), "arch=bad"]
    else:
        words = [*write_config(folder, "bad.yaml", f"defaults: {trap}\nseed: 1\n"), "-cn", "bad"]
    ran = invoke(*words, "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert "tags" in ran.err
    assert "bad.yaml, line" in ran.err
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "data.",
        "arch.",
        "optimizer.lr_for.",
        "optimizer.",
        "init.",
        "loss.",
        "batching.",
        "tracking.",
        "execution.",
        "data.a.b.c.",
    ],
)
@pytest.mark.parametrize("source", ["override", "file"])
def test_a_target_key_at_any_depth_is_refused(source, key, folder, invoke):
    if source == "override":
        words = [f"+{key}_target_=os.getcwd", f"+{key}_args_=[SPRUNG]"]
    else:
        node = {"_target_": "os.mkdir", "_args_": ["SPRUNG"]}
        for name in reversed(key.split(".")[:-1]):
            node = {name: node}
        text = yaml.safe_dump({"defaults": ["config", "_self_"], **node})
        words = [*write_config(folder, "bad.yaml", text), "-cn", "bad"]
    ran = invoke(*words, "data=digits", "dry_run=true")
    assert ran.status == 2, ran
    assert ran.err.startswith("fnnexp: ")
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("key", CODE)
@pytest.mark.parametrize("source", ["override", "file"])
def test_the_hydra_node_runs_no_code_and_writes_nothing(source, key, grid, folder, invoke):
    if source == "override":
        value = CODE[key].replace(": ", ":").replace("touch SPRUNG", "'touch SPRUNG'").replace("()", "'()'")
        words = [f"++hydra.{key}={value}"]
    else:
        text = f"defaults: [config, _self_]\nhydra:\n  {key}: {CODE[key]}\n"
        words = [*write_config(folder, "bad.yaml", text), "-cn", "bad"]
    ran = invoke(*["-m"][: int(grid)], *words, "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, ""), ran
    assert ran.err.startswith("fnnexp: ")
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("key", [key for key in CODE if key != "searchpath"])
def test_the_hydra_node_in_the_parameters_of_a_grid_is_refused(key, folder, invoke):
    value = CODE[key].replace(": ", ":").replace("touch SPRUNG", "'touch SPRUNG'").replace("()", "'()'")
    text = (
        "defaults: [config, _self_]\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        f'      ++hydra.{key}: "{value}"\n      seed: 0,1\n'
    )
    ran = invoke(*write_config(folder, "bad.yaml", text), "-cn", "bad", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, ""), ran
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("words", [["-cp", "pkg://stranger"], ["hydra.searchpath=[pkg://stranger]"]])
def test_no_package_is_imported_to_search_for_configs(words, folder, invoke):
    ran = invoke(*words, "data=digits", "dry_run=true")
    assert ran.status == 2
    assert "pkg://stranger" in ran.err
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("defaults", ["[3]", "3", "[null]", "[[config]]", "[true]", "[{a: b, c: d}]"])
def test_an_option_with_an_invalid_defaults_list_ends_without_a_traceback(defaults, folder, invoke):
    words = write_config(folder, "init/bad.yaml", f"defaults: {defaults}\nmethod: he\n")
    ran = invoke(*words, "-m", "init=bad,he", "data=digits", "dry_run=true")
    assert ran.status in (0, 2), ran
    assert "Traceback" not in ran.err
    assert all_files(folder) == ["inner"]


def test_completion_imports_no_package(folder, invoke, monkeypatch):
    typed = "fnnexp hydra.searchpath=[pkg://stranger] arch="
    monkeypatch.setenv("COMP_LINE", typed)
    monkeypatch.setenv("COMP_POINT", str(len(typed)))
    assert invoke("-sc", "query=bash").out == ""
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("words", ["-sc", "-sc foo", "-sc query=bash", "-i -m", "--info config -m seed=1,2"])
def test_invalid_hydra_flags_end_without_a_traceback(words, folder, invoke):
    ran = invoke(*words.split())
    assert ran.status in (1, 2), ran
    assert "Traceback" not in ran.err


def test_hydra_help_is_shown_and_runs_nothing(folder, invoke):
    ran = invoke("--hydra-help")
    assert (ran.status, ran.err) == (0, "")
    assert "--hydra-help" in ran.out
    ran = invoke("--hydra-help", f"++hydra.callbacks={CODE['callbacks'].replace(': ', ':')}")
    assert (ran.status, ran.out) == (2, "")
    assert all_files(folder) == ["inner"]


def test_hydras_config_sources_are_restored_after_a_command(folder, invoke):
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.sources_registry import SourcesRegistry

    invoke("seed=x")
    before = dict(SourcesRegistry.instance().types), ConfigLoaderImpl.load_configuration
    for words in (["data=digits", "dry_run=true"], ["seed=x"]):
        invoke(*words)
        assert (SourcesRegistry.instance().types, ConfigLoaderImpl.load_configuration) == before
    assert before[0]["file"].__module__.startswith("hydra.")


# --- files read only the config -----------------------------------------------------------------------------

SECRET = "geheim42"
READING = [
    "${oc.env:SECRET}",
    "${oc.env:NOT_THERE,${oc.env:SECRET}}",
    "a${oc.env:SECRET}b",
    "${ oc.env : SECRET }",
    "${oc.${batching.mode}:SECRET}",
    "${${tracking.experiment}:SECRET}",
    "${oc.select:nope,${oc.env:SECRET}}",
    "${oc.decode:'${oc.env:SECRET}'}",
    "${oc.create:{a: 1}}",
    "${oc.deprecated:seed}",
    "${oc.dict.keys:init}",
    "${now:%Y}",
    "${hydra:runtime.cwd}",
    "${leak:SECRET}",
]
"""References that OmegaConf resolves outside of the config; a program has registered the resolver `leak`."""


@pytest.fixture
def leak(monkeypatch):
    """Set a secret in the environment, and register a resolver that reads it."""
    monkeypatch.setenv("SECRET", SECRET)
    OmegaConf.register_new_resolver("leak", os.environ.get)
    yield
    OmegaConf.clear_resolver("leak")


PLACES = {
    "a value": "defaults: [config, _self_]\ntracking: {experiment: %s}\n",
    "a key": "defaults: [config, _self_]\noptimizer: {lr_for: {%s: 1}}\n",
    "a default": "defaults: [config, {override init: %s}, _self_]\n",
    "a parameter": "defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {params: {dtype: %s}}}\n",
    "the search path": "defaults: [config, _self_]\nhydra: {searchpath: [%s]}\n",
    "an option": None,
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("text", READING)
def test_a_file_cannot_read_anything_outside_the_config(text, where, folder, leak, invoke):
    written = json.dumps(text)
    if where == "an option":
        option = f"experiment: x\nuri: {written}\n"
        words = [*write_config(folder, "tracking/bad.yaml", option), "tracking=bad"]
    else:
        words = [*write_config(folder, "bad.yaml", PLACES[where] % written), "-cn", "bad"]
    ran = invoke(*words, "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, ""), ran
    assert re.search(r"bad\.yaml, line \d: .* is more than a reference to a key", ran.err)
    assert SECRET not in ran.err
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize(
    "value",
    [
        "${tracking.experiment}{oc.env:SECRET}",
        "$\\\\{oc.env\\\\:SECRET\\\\}",
        "'$\\\\{oc.env:SECRET}'",
        "\\\\${oc.env:SECRET}",
        "a,$\\\\{oc.env\\\\:SECRET\\\\}",
    ],
)
def test_a_grid_parameter_cannot_assemble_a_reference_to_the_environment(value, folder, leak, invoke):
    text = (
        "defaults: [config, _self_]\ntracking: {experiment: $}\n"
        f'hydra: {{mode: MULTIRUN, sweeper: {{params: {{tracking.uri: "{value}"}}}}}}\n'
    )
    ran = invoke(*write_config(folder, "bad.yaml", text), "-cn", "bad", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, ""), ran
    assert "is more than a reference to a key" in ran.err
    assert SECRET not in ran.err


@pytest.mark.parametrize("reference", ["${hydra.runtime.cwd}", "${...runtime.cwd}", "${...job.config_name}"])
def test_a_grid_parameter_cannot_refer_to_facts_about_the_machine(reference, folder, invoke):
    text = (
        "defaults: [config, _self_]\n"
        f"hydra: {{mode: MULTIRUN, sweeper: {{params: {{tracking.experiment: '{reference}'}}}}}}\n"
    )
    ran = invoke(*write_config(folder, "bad.yaml", text), "-cn", "bad", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, ""), ran
    assert "and there is no such key" in ran.err
    assert str(folder) not in ran.err


def test_a_file_may_refer_to_keys_and_the_command_line_to_the_environment(folder, leak, invoke):
    text = (
        "defaults: [config, _self_]\nepochs: ${oc.select:seed}\nseed: 3\n"
        "optimizer: {lr: '${.lr_for.${batching.mode}}'}\ndata: {validation: '${data.holdout}'}\n"
    )
    words = [*write_config(folder, "good.yaml", text), "-cn", "good", "data=digits", "dry_run=true"]
    ran = invoke(*words, "tracking.experiment=${oc.env:SECRET}")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"{SECRET}: 1 trial,")


def test_every_field_of_the_hydra_node_is_checked_or_known_to_be_harmless():
    known = {*safety.FREE, *(key.partition(".")[0] for key in safety.FIXED)}
    assert {field.name for field in dataclasses.fields(HydraConf)} - {"defaults"} == known
    job = {field.name for field in dataclasses.fields(JobConf)}
    acting = {key.removeprefix("job.") for key in safety.FIXED if key.startswith("job.")}
    assert job - acting == {"name", "override_dirname", "id", "num", "config_name", "config"}


# --- an address that a file sets is printed first -----------------------------------------------------------


@pytest.fixture
def screens(monkeypatch):
    """Collect the text on screen when a sweep starts to train, or a dry run starts to read the store."""
    screens = []

    def stop(*_, **__):
        screens.append(sys.stdout.getvalue())
        raise FnnexpError("stopped by the test")

    monkeypatch.setattr(api, "train", stop)
    monkeypatch.setattr(dry_run, "show", stop)
    return screens


LAB = "defaults: [config, override data: digits, _self_]\n"
NAMED = {
    "tracking: {uri: 'sqlite:////far/away/x.db'}": "where results go: tracking.uri=sqlite:////far/away/x.db",
    "tracking: {uri: 'http://me:pass@lab:5000'}": "results go: tracking.uri=http://",
    "execution: {backend: dask, address: 'tcp://lab:8786'}": "the cluster: execution.address=tcp://lab:8786",
    "hydra: {mode: MULTIRUN, sweeper: {params: {tracking.uri: 'http://lab:5000'}}}": "tracking.uri=http://lab:5000",
}


@pytest.mark.parametrize("dry", [[], ["dry_run=true"]])
@pytest.mark.parametrize("text", NAMED)
def test_an_address_in_a_file_is_printed_before_it_is_used(text, dry, folder, screens, invoke):
    words = [*write_config(folder, "lab.yaml", f"{LAB}{text}\n"), "-cn", "lab", *dry]
    invoke(*words)
    (screen,) = screens
    assert "a config file sets " in screen
    assert NAMED[text] in screen
    assert "pass" not in screen
    assert all_files(folder) == ["inner"]


def test_an_address_in_an_option_is_printed_from_python_too(folder, screens, monkeypatch):
    write_config(folder, "tracking/lab.yaml", "uri: http://lab:5000\n")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(FnnexpError, match="stopped by the test"):
        fnnexp.sweep(data="digits", tracking="lab", config_dir=folder.parent.parent / "mine")
    assert "results go: tracking.uri=http://lab:5000" in screens[0]


@pytest.mark.parametrize(
    "words",
    [["tracking.uri=sqlite:///x.db"], ["tracking={uri:'sqlite:///x.db'}"], ["++tracking.uri=sqlite:///x.db"]],
)
def test_an_address_on_the_command_line_is_not_printed(words, folder, screens, invoke):
    invoke(
        *write_config(folder, "lab.yaml", f"{LAB}tracking: {{uri: 'http://lab:5000'}}\n"),
        "-cn",
        "lab",
        *words,
    )
    assert screens == [""]


class Trap:
    def __reduce__(self):
        return os.mkdir, ("SPRUNG",)


@pytest.mark.parametrize("pickled", ["an array", "the whole file", "a lone .npy"])
def test_data_is_not_unpickled(pickled, folder, invoke):
    file = folder.parent.parent / "data.npz"
    if pickled == "an array":
        np.savez(
            file, **{name: np.array([Trap()], object) for name in ("x_train", "y_train", "x_test", "y_test")}
        )
    elif pickled == "the whole file":
        file.write_bytes(pickle.dumps(Trap()))
    else:
        with file.open("wb") as stream:
            np.save(stream, np.array([Trap()], object), allow_pickle=True)
    ran = invoke("data=files", f"data.path={quoted(str(file))}", "dry_run=true")
    assert ran.status == 2
    assert str(file) in ran.err
    assert all_files(folder) == ["inner"]


def test_the_cache_is_not_unpickled(folder, monkeypatch, capsys):
    monkeypatch.setenv("FNNEXP_CACHE", str(folder.parent.parent / "cache"))
    prepared = data.prepare("digits")
    np.save(
        Path(prepared.directory) / "y_train.npy",
        np.array([Trap()] * prepared.n_train, object),
        allow_pickle=True,
    )
    data.prepare("digits")
    assert "preparing it again" in capsys.readouterr().err
    assert all_files(folder) == ["inner"]


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME_NAMES)
@pytest.mark.usefixtures("blank_figures")
def test_no_experiment_name_leads_out_of_the_working_folder(name, folder, invoke, empty_store):
    from mlflow import MlflowClient

    uri = empty_store(folder)
    ran = invoke(
        "data=digits",
        "epochs=0",
        "arch.hidden=[1]",
        "execution.backend=sequential",
        f"tracking.experiment='{name}'",
    )
    assert ran.status == 0, ran.err
    (run,) = MlflowClient(uri).search_runs([MlflowClient(uri).get_experiment_by_name(name).experiment_id])
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(folder)
    ran = invoke("report", name) if not name.startswith("-") else invoke("report", "--", name)
    assert ran.status == 0, ran.err
    assert {path.name for path in folder.iterdir()} <= {
        "mlflow.db",
        "mlruns",
        "mlartifacts",
        ".fnnexp",
        "reports",
        "mlflow.db-wal",
        "mlflow.db-shm",
    }
    assert {path.name for path in folder.parent.iterdir()} == {"inner"}
    (report_folder,) = (folder / "reports").iterdir()
    assert (report_folder / "report.html").is_file()


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "\t", "\0", "a\0b", "\u202egpj", "\x1b[31m", "x" * 201, "x" * 10_000]
)
def test_an_experiment_name_with_unprintable_characters_is_refused(name, folder, invoke):
    text = f"defaults: [config, _self_]\ntracking:\n  experiment: {json.dumps(name)}\n"
    ran = invoke(*write_config(folder, "mine.yaml", text), "-cn", "mine", "data=digits", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert all_files(folder) == ["inner"]


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_of_a_report_is_a_single_valid_name(name):
    folder = commands.file_name(name)
    assert folder == Path(folder).name
    assert not set(folder) & set('<>:"/\\|?*\0')
    assert folder.strip(". ") == folder != ""
    assert folder.partition(".")[0].lower() not in {"con", "nul", "aux", "prn", "com1", "lpt9"}


@pytest.mark.parametrize("name", SOME_NAMES)
@pytest.mark.parametrize("key", ["data.name", "arch", "data", "experiment", "execution.backend"])
def test_an_option_is_looked_up_and_never_opened_as_a_path(key, name, folder, invoke):
    before = all_files(folder)
    ran = invoke(f"{key}='{name}'" if "." in key else f"{key}={name}", "dry_run=true")
    assert ran.status == 2, ran
    assert all_files(folder) == before


@pytest.mark.parametrize("name", ["../inner/mine", "mine/../../x", "/etc/hosts"])
def test_a_config_outside_the_config_folders_is_not_read(name, folder, invoke):
    ran = invoke("-cn", name, "dry_run=true")
    assert ran.status == 2
    assert "outside" in ran.err


@pytest.mark.parametrize("value", ["a\0b.npz", "\0", "a\nb.npz", "\x1b]0;x\x07"])
@pytest.mark.parametrize("key", ["path", "test_path", "name"])
def test_a_data_path_with_unprintable_characters_is_refused(key, value, folder, invoke):
    text = f"defaults: [config, override data: files, _self_]\ndata:\n  {key}: {json.dumps(value)}\n"
    ran = invoke(*write_config(folder, "mine.yaml", text), "-cn", "mine", "dry_run=true")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.isprintable() or ran.err.rstrip("\n").isprintable()
    assert all_files(folder) == ["inner"]


# --- ports --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, "127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_ui_on_loopback_prints_no_warning(host, store, invoke, started):
    ran = invoke("ui", "--port", "48123", *(["--host", host] if host else []))
    assert ran.status == 7, ran.err
    assert started[0][started[0].index("--host") + 1] == (host or "127.0.0.1")
    assert ran.err == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_ui_open_to_other_machines_warns_what_they_may_do(host, store, invoke, started):
    ran = invoke("ui", "--port", "48123", "--host", host)
    assert ran.status == 7
    assert started[0][started[0].index("--host") + 1] == host
    for words in (
        "warning",
        f"--host {host}",
        "no login",
        "read, change and delete every run",
        "Omit --host",
    ):
        assert words in ran.err


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a b", "300.1.1.1"])
def test_ui_on_an_invalid_host_is_refused(host, store, invoke, started):
    ran = invoke("ui", "--host", host)
    assert ran.status == 2
    assert f"--host {host}" in ran.err
    assert started == []


# --- downloads ----------------------------------------------------------------------------------------------


@pytest.fixture
def redirecting_server(monkeypatch, tmp_path):
    """Return a loopback server that redirects the download of MNIST to ``server.target``, another file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FNNEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FNNEXP_MNIST", raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
            content = b"" if self.path == "/mnist.npz" else b"another file"
            self.send_response(302 if self.path == "/mnist.npz" else 200)
            if self.path == "/mnist.npz":
                self.send_header("Location", server.target)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.target = [], ""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(download, "MNIST_MIRRORS", (f"http://127.0.0.1:{server.server_port}/mnist.npz",))
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("target", "requests", "reason"),
    [
        ("/elsewhere.npz", ["/mnist.npz", "/elsewhere.npz"], "does not match"),
        ("ftp://192.0.2.1/x", ["/mnist.npz"], "ftp"),
        ("file:///etc/hosts", ["/mnist.npz"], "file"),
    ],
)
def test_a_redirect_delivers_only_the_file_with_the_known_checksum(
    target, requests, reason, redirecting_server, tmp_path
):
    redirecting_server.target = target
    with pytest.raises(data.DataError, match=f"could not be downloaded(.|\n)*{reason}"):
        data.prepare("mnist")
    assert redirecting_server.requests == requests
    assert list((tmp_path / "cache").iterdir()) == []
