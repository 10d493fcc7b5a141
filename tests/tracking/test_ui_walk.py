"""Tests of MLflow's UI on two real sweeps, used in a real browser as a user would.

The installed browser runs without a window. It downloads nothing and reaches only this machine.
`FNNEXP_SCREENSHOTS=FOLDER` keeps the pictures.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

import fnnexp
from fnnexp.tracking.saved_views import CURVES, PARALLEL, RUNS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INITS, ARCHS, SEEDS = ("max", "xavier", "he"), ("relu_100", "tanh_128"), 2
GRID = [
    "-m", "data=digits", "data.validation=200", f"arch={','.join(ARCHS)}", f"init={','.join(INITS)}",
    f"seed=range({SEEDS})", "epochs=3", "tracking.experiment=walk",
]  # fmt: skip
SECOND_SWEEP = [
    "-m", "data=digits", "data.validation=200", "arch=relu_100", "init=max", "batching=full",
    f"seed=range({SEEDS})", "epochs=3", "tracking.experiment=walk",
]  # fmt: skip
GROUPS = [(arch, init, "mini") for arch in ARCHS for init in INITS] + [("relu_100", "max", "full")]
CURVES_NAME = "Mean curves over seeds, by arch, init, batching"
LINK = re.compile(r"http://\S+/#/experiments/\S+")
OLD = tuple(map(int, mlflow.__version__.split(".")[:2])) < (3, 17)
SECONDS = 60
"""The time that a loaded machine may take to draw the screen."""


@pytest.fixture(scope="module")
def browser():
    """Return the installed browser without a window."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is found")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def swept(browser, invoke, empty_store, tmp_path_factory):
    """Return a folder with an experiment of two sweeps."""
    folder = tmp_path_factory.mktemp("walk")
    empty_store(folder)
    for command in (GRID, SECOND_SWEEP):
        ran = invoke(*command, cwd=folder)
        assert ran.status == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def address(swept, invoke):
    """Return the link that the running `fnnexp ui` prints. The report is made while it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "fnnexp.cli", "ui", "--port", str(port)],
        cwd=swept,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        match = None
        while match is None and (line := process.stdout.readline()):
            match = LINK.search(line)
        assert match, "fnnexp ui printed no link"
        assert invoke("report", "walk", cwd=swept).status == 0
        yield match[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()


@pytest.fixture(scope="module")
def page(browser, address):
    """Return a page at the link, with MLflow's assistant closed. It must not contact any other host."""
    if OLD:
        pytest.skip("the tests use the UI of MLflow 3.17 and later")
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    foreign_requests = []

    def sort(route):
        local = re.match(r"(http://127\.0\.0\.1[:/]|data:|blob:)", route.request.url)
        if not local:
            foreign_requests.append(route.request.url)
        route.continue_() if local else route.abort()

    context.route("**/*", sort)
    context.set_default_timeout(SECONDS * 1000)
    expect.set_options(timeout=SECONDS * 1000)
    page = context.new_page()
    open_at(page, address)
    page.get_by_role("button", name="Close", exact=True).click()
    yield page
    context.close()
    assert foreign_requests == []


@pytest.fixture
def picture(page, tmp_path):
    """Return ``picture(name)``, which saves a screenshot."""
    folder = Path(os.environ.get("FNNEXP_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name, other=None: (other or page).screenshot(path=folder / f"{name}.png")


def open_at(page, address):
    """Open an address, and wait for the server to start."""
    while True:
        try:
            return page.goto(address)
        except sync_api.Error as error:
            if "ERR_CONNECTION_REFUSED" not in str(error):
                raise
            page.wait_for_timeout(200)


@pytest.fixture
def runs(page, address):
    """Return the page at the run table."""
    page.goto(address)
    expect(page.locator(".ag-center-cols-container .ag-row").first).to_be_visible()
    expect(page.locator(".ag-header-cell[col-id='params.`seed`']")).to_be_visible()
    return page


@pytest.fixture
def table(swept):
    return fnnexp.runs("walk", tracking_uri=f"sqlite:///{swept / 'mlflow.db'}")


def shown(page, column):
    """Return the texts of a column of the run table, from the top."""
    cells = page.locator(f".ag-center-cols-container [col-id='{column}']")
    tops = sorted(cells.all(), key=lambda cell: cell.bounding_box()["y"])
    return [text for cell in tops if (text := cell.inner_text()) != "-"]


def headings(page):
    """Return the table's headings from left to right."""
    cells = page.locator(".ag-header-cell").filter(has_text=re.compile(r"\w"))
    return [cell.inner_text() for cell in sorted(cells.all(), key=lambda cell: cell.bounding_box()["x"])]


def card(page, title):
    """Return the chart with a title."""
    return page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=re.compile(f"^{title}"))


LINES = """title => {
  const card = "[data-testid=experiment-view-compare-runs-card]";
  const plots = [...document.querySelectorAll(".js-plotly-plot")];
  const plot = plots.find(plot => !title || plot.closest(card)?.innerText.startsWith(title));
  const lines = (plot?.data ?? []).filter(line => (line.mode ?? "").startsWith("lines"));
  return lines.map(line => [line.name, [...line.y]]);
}"""


def lines(page, count, title=None):
    """Return the (name, y) of every line of a chart, once `count` different lines are drawn."""
    end = time.monotonic() + SECONDS
    drawn = set()
    while len(drawn) < count and time.monotonic() < end:
        drawn = {(name, tuple(y)) for name, y in page.evaluate(LINES, title) if y}
        page.wait_for_timeout(50)
    assert len(drawn) == count
    return drawn


@contextlib.contextmanager
def followed(page, name):
    """Follow a link of the experiment's description, which opens another page."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name=name, exact=True).click()
    yield opened.value
    opened.value.close()


@pytest.mark.parametrize("view", [RUNS, CURVES, PARALLEL])
def test_every_view_opens_in_every_version_of_mlflow(browser, address, view):
    """Older versions showed "Something went wrong" for a view without the whole state of the page."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_at(page, address.replace(RUNS, view) + ("" if view == RUNS else "&compareRunsMode=CHART"))
    charts = page.get_by_test_id("experiment-view-compare-runs-card")
    what = page.locator(".ag-center-cols-container .ag-row") if view == RUNS else charts
    expect(what.first).to_be_visible(timeout=SECONDS * 1000)
    assert errors == []
    page.close()


def test_the_description_shows_the_answer_the_commands_and_the_views(runs, picture):
    edit = runs.get_by_test_id("experiment-metadata-editor-edit-button")
    edit.locator("xpath=following::button[1]").click()
    expect(runs.get_by_text("leads with")).to_be_visible()
    for command in (GRID, SECOND_SWEEP):
        expect(runs.locator("code", has_text=shlex.join(["fnnexp", *command]))).to_be_visible()
    for link in ("The whole report", "Runs, best first", CURVES_NAME, "Parallel coordinates"):
        expect(runs.get_by_role("link", name=link, exact=True)).to_be_visible()
    picture("experiment")
    edit.locator("xpath=following::button[1]").click()


def test_the_table_shows_the_options_first_and_the_best_run_on_top(runs, table, picture):
    first = ["arch", "init", "batching", "seed", "best_val_accuracy", "best_val_epoch", "val_accuracy"]
    assert headings(runs)[:9] == ["Run Name", "Created", *first]
    best = [float(text) for text in shown(runs, "metrics.`best_val_accuracy`")]
    assert best == sorted(table["best_val_accuracy"].round(4), reverse=True)
    picture("runs")


def test_mean_curves_are_means_over_seeds_of_each_configuration(runs, swept, picture):
    curves = fnnexp.curves("walk", tracking_uri=f"sqlite:///{swept / 'mlflow.db'}")
    by = ["arch", "init", "batching", "epoch"]
    means = curves.query("metric == 'val_accuracy'").groupby(by, observed=True)["value"].mean()
    with followed(runs, CURVES_NAME) as page:
        for arch, init, batching in GROUPS:
            group = f"Group: arch: {arch}, init: {init}, batching: {batching}"
            expect(page.get_by_text(group, exact=True)).to_be_visible()
        drawn = [y for _, y in lines(page, len(GROUPS), "val_accuracy")]
        for group in GROUPS:
            assert min(np.abs(np.subtract(means[group].to_numpy(), y)).max() for y in drawn) < 1e-6
        expect(page.get_by_text("Unassigned")).to_have_count(0)
        picture("curves", page)


def test_parallel_coordinates_have_numbers_where_params_are_numbers(runs, picture):
    with followed(runs, "Parallel coordinates") as page:
        axes = card(page, "Parallel Coordinates").locator(".dimension")
        expect(axes).to_have_count(5)
        ticks = {axis.locator(".label").text_content(): axis.locator(".tick text").all_text_contents()
                 for axis in axes.all()}  # fmt: skip
        assert list(ticks) == ["arch", "init", "batching", "seed", "best_val_accuracy"]
        assert set(ticks["arch"]) == set(ARCHS)
        assert set(ticks["init"]) == set(INITS)
        assert len(ticks["seed"]) > SEEDS
        assert [float(tick) for tick in ticks["seed"]] == sorted(map(float, ticks["seed"]))
        picture("parallel", page)


def test_four_runs_compared_are_four_curves_in_one_chart(runs, picture):
    boxes = runs.locator(".ag-pinned-left-cols-container .ag-row input.ag-checkbox-input")
    for k in range(4):
        boxes.nth(k).check()
    runs.get_by_role("button", name="Compare", exact=True).click()
    expect(runs.get_by_text("Comparing 4 Runs from 1 Experiment")).to_be_visible()
    picture("compare")
    runs.get_by_role("link", name="val_accuracy", exact=True).click()
    assert len({name for name, _ in lines(runs, 4)}) == 4
    picture("overlaid")


def test_the_description_links_to_the_report(runs, picture):
    with followed(runs, "The whole report") as page:
        report = page.frame_locator("iframe").first
        expect(report.get_by_role("heading", name="The answer")).to_be_visible()
        picture("report", page)
