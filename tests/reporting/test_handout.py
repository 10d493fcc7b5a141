"""The handout of a report: the same answer, figure and table, and one printed page of A4 and of US letter."""

import html
import re
import shlex
import shutil
import subprocess

import pandas as pd
import pytest

import fnnexp
from fnnexp.errors import FnnexpError

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWEEPS = {
    "one": ["seed=0,1,2"],
    "small": ["init=he,max", "seed=0,1,2"],
    "large": ["arch=relu_100,tanh_128,sigmoid_32_32", "init=max,sqrtmax,he,he_normal,normal,orthogonal",
              "batching=full,mini", "optimizer.lr=0.01,0.1", "seed=0,1"],
    "search": ["search=random", "search.trials=20", "optimizer.lr=tag(log,interval(1e-3,1))", "init=he,max"],
    "preset": ["experiment=nielsen_30", "data.validation=200", "seed=0,1"],
    "layers": ["init=he,max", "arch.hidden=[16,16,16]", "seed=0,1", "diagnostics=true"],
    "diverged": ["init=normal", "init.std=30", "optimizer.lr=1e8", "seed=0,1"],
}  # fmt: skip
"""Sweeps of all sizes, by the name of their experiment."""


def text_of(page):
    """Return the text that a page shows, without its figures."""
    body = re.sub("<svg.*?</svg>", "", page[page.index("<h1>") :], flags=re.DOTALL)
    return html.unescape(re.sub("<[^>]+>", " ", body))


@pytest.mark.usefixtures("store", "blank_figures")
def test_the_handout_has_the_answer_a_figure_a_table_and_how_it_was_run(own_folder):
    fnnexp.sweep(
        "data=digits", "epochs=1", "tracking.experiment=small", "execution.n_jobs=1", *SWEEPS["small"]
    )
    title = 'Which start? <b>He\'s & "max"</b>'
    made = fnnexp.report("small", "init=he,max", metric="val_loss", handout=True, title=title, folder="out")
    page, report = (path.read_text("utf-8") for path in (made.handout, made.path))
    shown, runs = text_of(page), fnnexp.runs("small")
    for text in (
        *fnnexp.answer(runs, metric="val_loss").splitlines()[:1],
        "6 trials of 2 configurations", "Ranked by val_loss", "seeds: 0,1,2", "data: digits",
        runs["data_checksum"].iloc[0], runs["versions"].iloc[0], f"date: {runs['started'].min():%Y-%m-%d}",
        "fnnexp report small init=he,max --metric val_loss --handout --title "
        f"{shlex.quote(title)} --folder out",
    ):  # fmt: skip
        assert text in shown
        assert text in text_of(report) or text in ("seeds: 0,1,2", "data: digits")
    assert page.count("<figure>") == page.count("<table") == 1
    numbers = (re.findall("<data value='(.*?)'>", each) for each in (page, report))
    assert {*next(numbers)} <= {*next(numbers)}
    assert "@media (prefers-color-scheme" not in page  # it is dark on a screen only
    for text in (page, report):
        heading, name = (re.search(f"<{tag}>(.*?)</{tag}>", text)[1] for tag in ("h1", "title"))
        assert html.unescape(heading) == html.unescape(name).removesuffix(" · fnnexp") == title
        assert "<b>" not in heading + name


def test_a_handout_needs_an_experiment(invoke, store):
    ran = invoke("report", "--handout")
    assert ran.status == 2
    assert "write fnnexp report NAME --handout …" in ran.err
    with pytest.raises(FnnexpError, match="no experiment"):
        fnnexp.report("none", handout=True)


@pytest.mark.parametrize("title", ["", " ", "two\nlines", "bell\a", "\ud800", "x" * 121, 3])
def test_a_title_that_is_no_line_of_text_is_refused(title):
    with pytest.raises(FnnexpError, match=r"title=.*: must be a text of 1 to 120 characters on one line"):
        fnnexp.report("any", title=title)


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.usefixtures("store")
def test_every_handout_prints_on_one_page_of_a4_and_of_letter(own_folder):
    for name, words in SWEEPS.items():
        fnnexp.sweep("data=digits", "epochs=2", f"tracking.experiment={name}", *words)
        page = fnnexp.report(name, handout=True).handout.read_text("utf-8")
        assert page.count("<figure>") == 1 + (name == "layers")
        is_short = "The first 3 of 72 rows are shown" in text_of(page)
        assert is_short == (name == "large")  # so that the figure has room
        assert not re.search(r"\w\.(csv|html)", text_of(page))  # nobody can open a file on paper
        for size in ("a4", "letter") if name == "large" else ("letter",):
            sized = own_folder / f"{name}_{size}.html"
            sized.write_text(page.replace("@page { ", f"@page {{ size: {size}; "), "utf-8")
            pdf = sized.with_suffix(".pdf")
            command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
            subprocess.run(
                [*command, f"--print-to-pdf={pdf}", sized.as_uri()], check=True, capture_output=True
            )
            assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 1, (name, size)
    assert pd.notna(fnnexp.runs("one")["parameters"]).all()
