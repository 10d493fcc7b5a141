"""What one can do in a report's page, in a real browser, with the values of its files.

`FNNEXP_SCREENSHOTS=FOLDER` keeps pictures at three widths, light, dark and printed.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fnnexp.reporting.document import html
from fnnexp.reporting.document.blocks import Cell, Document, Section, Table, Text

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWEEP = [
    "-m", "data=digits", "data.subset=300", "arch=relu_100,tanh_128", "init=max,he,he_normal",
    "seed=range(3)", "epochs=3", "diagnostics=full", "tracking.experiment=page",
]  # fmt: skip
SMALLEST = 11  # pixels of a font


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
def folder(browser, invoke, empty_store, tmp_path_factory):
    """Return the folder of a report."""
    folder = tmp_path_factory.mktemp("page")
    empty_store(folder)
    for words in (SWEEP, ["report", "page", "--handout"]):
        ran = invoke(*words, cwd=folder)
        assert ran.status == 0, ran.err
    return folder / "reports" / "page"


@pytest.fixture
def page(browser, folder):
    """Return a page that shows the report, and fail on an error of its script."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto((folder / "report.html").as_uri())
    yield page
    page.close()
    assert errors == []


def board(page):
    """Return the table of the leaderboard."""
    return page.locator("section#leaderboard table")


def column(table, head):
    """Return the texts of the visible cells of a column."""
    titles = [text.strip() for text in table.locator("th").all_inner_texts()]
    cells = table.locator(f"tbody tr:not([hidden]) td:nth-child({titles.index(head) + 1})")
    return cells.all_inner_texts()


def read(data):
    """Yield (options, quantity, numbers by name, seed, x, y) of each mark in the data of a figure."""
    figure = json.loads(data)
    for kind, option, *lists in figure["marks"]:
        names, seed = figure["kinds"][kind]["names"], lists[len(figure["kinds"][kind]["names"]) + 2 :]
        x, y, *numbers = (figure["lists"][i] for i in lists[: len(names) + 2])
        quantity = figure["kinds"][kind]["quantity"]
        yield (
            figure["options"][option],
            quantity,
            dict(zip(names, numbers, strict=True)),
            *(seed or [""]),
            x,
            y,
        )


def marks(folder):
    """Yield the name of the figure and what :func:`read` yields, of each mark of the page."""
    text = (folder / "report.html").read_text("utf-8")
    for name, data in re.findall(
        r"id='figure-(\w+)'>.*?<script type='application/json'>(.*?)</script>", text, flags=re.DOTALL
    ):
        yield from ((name, *mark) for mark in read(data))


def test_every_value_of_a_figure_is_in_its_files(folder):
    values = pd.read_csv(folder / "figures.csv")
    curves, runs = pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "runs.csv")
    curves = curves.merge(runs[["trial", "arch", "init", "seed"]], on="trial", suffixes=("", "_of_run"))
    leader = pd.read_csv(folder / "leader.csv")
    count, singles = 0, 0
    for name, options, quantity, numbers, seed, _, _ in marks(folder):
        if seed:
            own = curves[curves["metric"].eq(quantity) & ("seed " + curves["seed"].astype("str")).eq(seed)]
            own = own[own["arch"].eq(options["arch"]) & own["init"].eq(options["init"])]
            assert own.sort_values("epoch")[["epoch", "value"]].to_dict("list") == numbers
            singles += 1
            continue
        own = values[values["figure"].eq(name) & values["quantity"].eq(quantity)]
        for factor, option in options.items():
            own = own[own[factor] == option]
        for key in ("layer", "real", "predicted"):
            own = own[own[key].isin(numbers.get(key, own[key]))]
        assert len(own) == len(next(iter(numbers.values())))
        for column, truth in numbers.items():
            assert own[column].tolist() == pytest.approx(truth, rel=0, abs=0, nan_ok=True)
        count += len(own)
        if name in ("val_accuracy", "val_loss"):  # the mean of the trials' own values
            of = curves[curves["metric"].eq(name) & curves["arch"].eq(options["arch"])]
            means = of[of["init"] == options["init"]].groupby("epoch")["value"].mean()
            assert numbers["mean"] == pytest.approx(means.tolist(), rel=1e-12)
        if name == "answer" and "low" in numbers:
            row = leader[leader["b"] == quantity.partition(" minus that of ")[2]].iloc[0]
            assert all(row[key] == numbers[key][0] for key in ("difference", "low", "high", "p_corrected"))
    assert count == len(values)
    drawn = re.findall(r"id='figure-([\w.]+)'", (folder / "report.html").read_text("utf-8"))
    assert {*drawn} == {name for name, *_ in marks(folder)}  # no figure lacks values
    assert singles == 2 * len(runs)


def test_a_column_sorts_by_its_exact_values_with_the_keyboard(page, folder):
    accuracies = pd.read_csv(folder / "leaderboard.csv")["val_accuracy"]
    head = board(page).locator("th").filter(has_text="val %")
    shown = column(board(page), "val %")
    up = sorted(accuracies)
    for order, truth in (("ascending", up), ("descending", up[::-1]), (None, accuracies)):
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        titles = [text.strip(" ▲▼") for text in board(page).locator("th").all_inner_texts()]
        cells = board(page).locator(f"tbody td:nth-child({titles.index('val %') + 1}) data")
        values = [float(cell.get_attribute("value")) for cell in cells.all()]
        assert values == list(truth)
    assert column(board(page), "val %") == shown


def test_a_click_anywhere_in_a_head_sorts(page):
    head = board(page).locator("th").filter(has_text="val %")
    head.click(position={"x": 2, "y": 5})  # beside the words, which are at the right
    assert head.get_attribute("aria-sort") == "ascending"


def test_a_value_of_a_numeric_factor_is_found_in_columns_and_in_names(
    browser, invoke, empty_store, tmp_path_factory
):
    """The leaderboard has a column `lr`; the comparisons name the configuration `optimizer.lr=0.1`."""
    folder = tmp_path_factory.mktemp("rates")
    empty_store(folder)
    sweep = ["-m", "data=digits", "arch.hidden=[8]", "epochs=1", "optimizer.lr=0.1,0.3,0.5", "seed=0,1"]
    for words in ([*sweep, "tracking.experiment=rates"], ["report", "rates"]):
        ran = invoke(*words, cwd=folder)
        assert ran.status == 0, ran.err
    page = browser.new_page()
    page.goto((folder / "reports" / "rates" / "report.html").as_uri())
    board(page).locator("td.option", has_text=re.compile(r"^0.3$")).first.click()
    assert page.locator("tr.on", has_text="optimizer.lr=0.3").count() > 0
    assert page.locator("tr.on", has_text="optimizer.lr=0.5").count() == 0
    page.keyboard.press("Escape")
    page.locator("td.option", has_text="optimizer.lr=0.3").first.click()
    assert board(page).locator("tr.on").count() == 1
    page.get_by_role("searchbox").fill("optimizer.lr=0.3")
    assert column(board(page), "lr") == ["0.3"]
    page.close()


def test_a_factor_is_filtered_by_the_last_part_of_its_name_under_any_head(browser, tmp_path):
    rows = [[Cell("he"), Cell("0.3", 0.3)], [Cell("max"), Cell("0.03", 0.03)], [Cell("0.3"), Cell("1", 1)]]
    remark = Text("A definition.", quiet=True, under="How to read this table")
    section = Section("Rates", [remark, Table("", ["init", "best optimizer.lr"], rows, 2)])
    (tmp_path / "page.html").write_text(html.render(Document("Rates", [section])), "utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.get_by_role("searchbox").fill("lr=0.3")
    assert column(page.locator("table"), "best optimizer.lr") == ["0.3"]
    definition = page.get_by_text("A definition.")
    assert not definition.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # a print shows what the page folds
    assert definition.is_visible()
    page.close()


def test_words_filter_the_rows_of_all_tables(page):
    box = page.get_by_role("searchbox")
    box.fill("he tanh_128")  # not he_normal
    assert column(board(page), "arch") == ["tanh_128"]
    assert column(board(page), "init") == ["he"]
    assert "1 of 6 rows match “he tanh_128”" in page.locator("section#leaderboard .count").inner_text()
    box.fill("")
    negative = next(text for text in column(board(page), "train − val") if text.startswith("−"))
    box.fill(negative.replace("−", "-"))  # as a key writes it
    assert negative in column(board(page), "train − val")
    box.fill("init=he_n")
    assert {*column(board(page), "init")} == {"he_normal"}
    box.fill("")
    assert len(column(board(page), "init")) == 6
    assert page.locator("section#leaderboard .count").inner_text() == ""


LIT = "svg => [...svg.querySelectorAll('.on')].map(each => each.dataset.o)"


def test_an_option_is_highlighted_in_every_figure_and_table(page):
    cell = board(page).locator("td", has_text=re.compile(r"^he$")).first
    cell.click()
    assert {*board(page).locator("tr.on td:nth-child(2)").all_inner_texts()} == {"he"}
    figures = page.locator("figure svg.lit")
    assert figures.count() >= 5
    for svg in figures.all():
        options = json.loads(svg.locator("xpath=../..").locator("script").text_content())["options"]
        lit = [options[int(i)] for i in svg.evaluate(LIT)]
        assert lit
        assert all(each["init"] == "he" for each in lit)
    page.keyboard.press("Escape")
    assert page.locator(".on, .lit").count() == 0
    legend = page.locator("#figure-val_accuracy [data-name][aria-label=he]").last
    legend.scroll_into_view_if_needed()
    box = legend.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert {*board(page).locator("tr.on td:nth-child(2)").all_inner_texts()} == {"he"}
    legend.press("Enter")
    assert page.locator(".on, .lit").count() == 0


ON_SCREEN = """(svg, place) => {
    const point = new DOMPoint(...place).matrixTransform(svg.getScreenCTM());
    return [point.x, point.y];
}"""


def test_points_show_their_values_and_single_seeds_come_on_demand(page, folder):
    svg = page.locator("#figure-val_accuracy svg")
    svg.scroll_into_view_if_needed()
    _, _, lists, _, x, y = next(read(page.locator("#figure-val_accuracy + script").text_content()))
    page.mouse.move(*svg.evaluate(ON_SCREEN, [x[-1], y[-1]]))
    numbers = {name: values[-1] for name, values in lists.items()}
    shown = dict(line.rsplit(" ", 1) for line in page.locator(".tip div").all_inner_texts()[1:])
    assert {name: float(text) for name, text in shown.items()} == numbers
    button = page.locator("figure", has=svg).get_by_role("button", name="Single seeds")
    button.click()
    paths = page.locator("#figure-val_accuracy .singles path")
    assert paths.count() == len(pd.read_csv(folder / "runs.csv"))
    assert paths.first.get_attribute("d").count("L") == 3 - 1
    stroke = "each => getComputedStyle(each).stroke"
    lines = page.locator(f"#figure-val_accuracy [data-o='{paths.first.get_attribute('data-o')}'] path")
    assert paths.first.evaluate(stroke) in {line.evaluate(stroke) for line in lines.all()} - {"none"}
    button.click()
    assert not page.locator("#figure-val_accuracy .singles").is_visible()


TEXT_SIZES = """() => [...document.querySelectorAll("body *")]
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .filter(each => each.checkVisibility() && !each.closest("script, style"))
    .map(each => parseFloat(getComputedStyle(each).fontSize))"""
FONT = "each => parseFloat(getComputedStyle(each).fontSize)"
GLYPHS = """() => [...document.querySelectorAll("svg")].map(svg =>
    svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"""
CUT = """() => [...document.querySelectorAll("body *")]
    .filter(each => !each.closest(".wide, .drawing, script, [hidden]"))
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && each.checkVisibility())
    .map(each => each.tagName + each.className)"""


@pytest.mark.parametrize("width", [500, 800, 1300])
def test_nothing_is_cut_off_or_too_small(page, width, tmp_path):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []
    assert min(page.evaluate(TEXT_SIZES)) >= SMALLEST
    # Matplotlib draws text as shapes: of 8.5 points and more, which are 11.3 pixels at the natural size.
    assert min(page.evaluate(GLYPHS)) >= 96 / 72 - 0.01
    assert page.locator("nav details").evaluate("each => each.open") == (width == 1300)
    if width == 1300:  # no table and no figure needs scrolling
        scrolls = "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
        assert page.locator(".wide, .drawing").evaluate_all(scrolls) == 0
    assert page.locator("th:not([scope=col]), figure svg:not([aria-label])").count() == 0
    folder = Path(os.environ.get("FNNEXP_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"page_{width}_{scheme}.png", full_page=True)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    sizes = [page.locator(each).first.evaluate(FONT) for each in (".remarks p", "figcaption", "body")]
    assert sizes[0] == sizes[1] < sizes[2]
    # Chromium does not repeat a table's head on the next page if it has boxes of buttons.
    assert (
        board(page).locator("th button").first.evaluate("each => getComputedStyle(each).display")
        == "contents"
    )


@pytest.mark.parametrize("file", ["report.html", "handout.html"])
def test_the_side_of_the_leader_is_in_sight_first(page, folder, file):
    page.goto((folder / file).as_uri())
    drawing = page.locator("figure > div:has(> svg)").first
    sides = """each => [each, each.querySelector("svg")].flatMap(one => {
        const { left, right } = one.getBoundingClientRect(); return [left, right]; })"""
    for width in (500, 1300):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        left, right, svg_left, svg_right = drawing.evaluate(sides)
        if width == 500:
            assert svg_right == pytest.approx(right, abs=1)
            assert svg_left < left - 50
            drawing.evaluate("each => each.scrollBy(-1000, 0)")  # the names on the left can be scrolled to
            left, right, svg_left, svg_right = drawing.evaluate(sides)
            assert svg_right > right
        assert svg_left == pytest.approx(left, abs=1)


def test_the_best_cell_of_a_heat_map_stands_out_from_the_page_in_light_and_dark(page):
    figure = page.locator("#figure-heat_map")
    data = page.locator("#figure-heat_map + script").text_content()
    values = [numbers["mean"][0] for _, _, numbers, *_ in read(data)]
    best = int(np.argmax(values))
    for scheme, index in (("light", 0), ("dark", -1)):
        page.emulate_media(color_scheme=scheme)
        cells = figure.locator("[data-o]:not([data-name]) > path")
        fills = [
            sum(map(int, re.findall(r"\d+", cell.evaluate("each => getComputedStyle(each).fill"))))
            for cell in cells.all()[: len(values)]
        ]
        assert fills[best] == sorted(fills)[index]
