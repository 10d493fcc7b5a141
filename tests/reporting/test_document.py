"""A document and its renderings: what each medium shows, and that text is escaped."""

import base64
import csv
import errno
import hashlib
import io
import json
import re

import pandas as pd
import pytest
from rich.console import Console

from fnnexp.errors import FnnexpError
from fnnexp.reporting.document import html, markdown, terminal
from fnnexp.reporting.document.blocks import (
    EVERYWHERE,
    PAGE,
    TERMINAL,
    Cell,
    Code,
    Document,
    Figure,
    Items,
    Links,
    Mark,
    Medium,
    Section,
    Table,
    Text,
)
from fnnexp.reporting.write import write_files

EVIL = "<b>|*`x`"


def table(rows=3, **options):
    cells = [
        [Cell(f"row {i}"), Cell(f"{i}.5", i + 0.5), Cell("open"), Cell("see below")] for i in range(rows)
    ]
    return Table("Numbers", ["name", "value", "verdict", "note"], cells, 1, EVERYWHERE, **options)


DOCUMENT = Document(
    f"title {EVIL}",
    [
        Section(
            "First",
            [
                Text(f"text {EVIL}", quiet=True, code="code <i>"),
                Code("fnnexp -m 'a=<1>'"),
                Items([f"item {EVIL}", "second"]),
                table(),
                Figure("figure_1", f"caption {EVIL}", "<svg>drawn</svg>", b"png", "heading"),
                Figure("figure_2", "another", "<svg>too</svg>", b"png", "heading"),
                Links("Files:", ["a.csv", "b.csv"]),
            ],
            {"a": pd.DataFrame({"x": [1]})},
        ),
        Section("On the page", [Text("page alone", PAGE)]),
        Section("In the terminal", [Text("terminal alone", TERMINAL)]),
        Section("Nowhere", []),
    ],
)


def shown(document, width=80):
    console = Console(file=io.StringIO(), width=width)
    terminal.show(document, console)
    return console.file.getvalue()


def test_each_medium_shows_its_blocks_and_no_empty_sections():
    page, text, screen = html.render(DOCUMENT), markdown.render(DOCUMENT), shown(DOCUMENT)
    assert re.findall("<h2>(.*?)</h2>", page) == ["First", "On the page"]
    assert re.findall("^## (.*)$", text, flags=re.MULTILINE) == ["First"]
    assert not {"First", "On the page", "In the terminal"} & {
        *screen.splitlines()
    }  # the terminal shows no headings
    assert "terminal alone" in screen
    assert "page alone" not in screen + text
    assert DOCUMENT.sections[0].shown_in(Medium.TERMINAL) == [table()]


def test_the_page_escapes_all_text_and_embeds_figures():
    page = html.render(DOCUMENT)
    body = page[page.index("<h1>") :]
    assert "<b>" not in body
    assert body.count("&lt;b&gt;|*`x`") == 4  # title, text, item, caption
    assert "<code>code &lt;i&gt;</code></p>" in body
    assert "<pre>fnnexp -m &#39;a=&lt;1&gt;&#39;</pre>" in body
    assert "<svg>drawn</svg>" in body
    assert body.count("<h3>heading</h3>") == 1  # one heading for both figures
    assert "<a href='a.csv'>a.csv</a>, <a href='b.csv'>b.csv</a>." in body
    assert "<td class='n'><data value='0.5'>0.5</data></td><td class='verdict'>open</td>" in body


def test_names_in_the_data_of_figures_cannot_end_a_script():
    evil = "</script><script>alert(1)</script><!--"
    mark = Mark(0, evil, [1.0], [2.0], {evil: [evil], "mean": [0.1], "low": [float("nan")]}, single=evil)
    figure = Figure("f", "", "<svg></svg>", b"", options=[{evil: evil}], marks=[mark])
    page = html.render(Document("x", [Section("y", [figure])]))
    assert page.count("</script>") == 2  # the data of the figure, and the script of the page
    data = json.loads(page.partition("<script type='application/json'>")[2].partition("</script>")[0])
    assert data["options"] == [{evil: evil}]
    assert data["marks"] == [[0, 0, 0, 1, 2, 3, 4, evil]]
    assert data["kinds"] == [{"quantity": evil, "names": [evil, "mean", "low"], "size": None}]
    assert data["lists"] == [[1.0], [2.0], [evil], [0.1], [None]]


def test_the_page_may_run_its_own_script_alone_and_load_nothing():
    page = html.render(DOCUMENT)
    policy = re.search(r'Content-Security-Policy\'\s+content="(.*?)"', page)[1]
    script = re.search("<script>(.*)</script>", page, flags=re.DOTALL)[1]
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{checksum}'; style-src 'unsafe-inline'; img-src data:"
    )


def test_the_contents_link_to_every_section_by_its_title():
    page = html.render(DOCUMENT)
    assert re.findall("<li><a href='#(.*?)'>(.*?)</a>", page) == [
        ("first", "First"),
        ("on-the-page", "On the page"),
    ]
    assert re.findall("<section id='(.*?)'>", page) == ["first", "on-the-page"]


def test_many_points_are_thinned_and_keep_the_last(monkeypatch):
    monkeypatch.setattr(html, "MOST_OF_TRIALS", 40)
    numbers = [float(i) for i in range(100)]
    mark = Mark(0, "q", numbers, numbers, {"mean": numbers})
    figure = Figure("f", "", "", b"", options=[{}], marks=[mark, mark._replace(single="seed 1")])
    page = html.render(Document("x", [Section("y", [figure])]))
    data = json.loads(page.partition("<script type='application/json'>")[2].partition("</script>")[0])
    means, single = (data["lists"][mark[4]] for mark in data["marks"])
    assert (means, single, data["step"]) == (numbers, numbers[0::3], 3)
    assert figure.data["mean"].tolist() == numbers  # without the single trial


def test_the_markdown_escapes_all_text_and_links_figures():
    text = markdown.render(DOCUMENT)
    assert text.startswith("# title &lt;b>\\|\\*\\`x\\`\n\n## First\n\n")
    assert "    fnnexp -m 'a=<1>'\n" in text
    assert "- item &lt;b>\\|\\*\\`x\\`\n- second\n" in text
    assert (
        "### Numbers\n\n| name | value | verdict | note |\n| --- | ---: | --- | --- |\n| row 0 | 0.5 |"
        in text
    )
    assert "](figure_1.png)" in text


def test_a_long_name_in_a_table_can_be_broken_after_its_underscores():
    table = Table("", ["init"], [[Cell("he_normal")], [Cell(10 * "he_<")]], 1)
    page = html.render(Document("Names", [Section("Names", [table])]))
    assert ">he_normal<" in page
    assert 10 * "he_<wbr>&lt;" in page


def test_a_long_folding_table_is_collapsed_on_the_page():
    collapsed, open_table = (
        html.render(Document("t", [Section("s", [table(rows, folds=True)])]))
        for rows in (html.ROWS_OPEN + 1, html.ROWS_OPEN)
    )
    assert "<details><summary>Numbers: 13 rows</summary>" in collapsed
    assert "<summary>Numbers" not in open_table
    assert "<h3>Numbers</h3>" in open_table


def test_the_terminal_shows_the_rows_that_fit_and_names_the_file_with_the_rest():
    numbers = table(40, file="numbers.csv", wide=["value"])
    text = Text("This text is long, " * 20, EVERYWHERE)
    screen = shown(Document("t", [Section("s", [text, numbers])]))
    lines = screen.splitlines()
    assert len(lines) == terminal.LINES
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.strip().startswith("row ")]
    assert len(rows) >= 5
    assert f"… and {40 - len(rows)} more rows in numbers.csv" in screen
    assert "value" not in screen
    assert "0.5" not in screen
    assert screen.count("see below") == 1  # a note is printed once, below the table
    assert screen.count("[1]") == len(rows) + 1
    short = shown(Document("t", [Section("s", [table(3, file="numbers.csv"), numbers])]))
    assert [f"row {i}" in short for i in range(3)] == [True] * 3  # one whole table, then the rows that fit
    assert len(short.splitlines()) <= terminal.LINES


def test_texts_make_room_for_the_first_rows_of_the_first_table():
    answers = [Text(f"Answer {i}. {'Why it is so. ' * 12}", EVERYWHERE) for i in range(9)]
    counts = Section("counts", [Text("9 trials.", EVERYWHERE)])
    board = Section("board", [table(40, file="numbers.csv")])
    screen = shown(Document("t", [Section("s", answers), counts, board]))
    assert len(screen.splitlines()) <= terminal.LINES
    rows = [f"row {i}" for i in range(40) if f"row {i} " in screen]
    assert rows[:3] == ["row 0", "row 1", "row 2"]
    kept = [i for i in range(9) if f"Answer {i}." in screen]
    assert kept == [*range(len(kept))]
    assert f"… and {9 - len(kept)} more remarks on the page\n" in screen
    assert "9 trials." in screen
    one = shown(Document("t", [Section("s", [Text("Many lines. " * 120, EVERYWHERE)]), counts, board]))
    assert len(one.splitlines()) <= terminal.LINES
    assert all(f"row {i}" in one for i in range(3))
    assert "Many lines. Many" in one
    nameless = Section("board", [table(40)])
    first, second = Text("Answer. " * 80 + "End.", EVERYWHERE), Text("Beside. " * 40, EVERYWHERE)
    two = shown(Document("t", [Section("s", [first]), Section("b", [second]), nameless]))
    assert "End." in two  # the answer is cut last
    assert "more rows on the page" in two
    assert " …\n" in one
    command = Code("fnnexp -m " + " ".join(f"key_{i}=1" for i in range(200)), EVERYWHERE)
    assert command.text in shown(Document("t", [Section("s", [command]), board]))  # it can be pasted


@pytest.mark.parametrize("width", [100, 72, 40])
def test_a_table_that_is_too_wide_for_the_terminal_keeps_its_names_and_whole_numbers(width):
    """First heads are broken into lines, then columns are omitted from the right."""
    head = ["init", *(f"accuracy in tuning {i}" for i in range(5))]
    row = [Cell("glorot_uniform"), *(Cell(f"{90 + i}.25 ± 1.0", i) for i in range(5))]
    screen = shown(Document("t", [Section("s", [Table("", head, [row] * 3, 1, EVERYWHERE)])]), width)
    lines = [line for line in screen.splitlines() if "±" in line]
    values = [f"{90 + i}.25 ± 1.0" for i in range({100: 5, 72: 4, 40: 1}[width])]
    assert [line.split("  ")[0].strip() for line in lines] == ["glorot_uniform"] * 3
    assert all([part.strip() for part in re.split(r"\s{2,}", line.strip())][1:] == values for line in lines)


def test_the_terminal_escapes_control_characters():
    evil = "\x1b[2J\x07"
    section = Section(evil, [Text(evil, EVERYWHERE), Table(evil, [evil], [[Cell(evil)]], 1, EVERYWHERE)])
    screen = shown(Document(evil, [section]))
    assert "\x1b" not in screen
    assert "\x07" not in screen
    assert screen.count("[2J") == 5  # title, text, and the title, head and cell of a table


def test_a_document_has_the_figures_and_data_of_its_sections():
    assert [figure.name for figure in DOCUMENT.figures] == ["figure_1", "figure_2"]
    assert list(DOCUMENT.data) == ["a"]
    assert DOCUMENT.section("On the page").sentences == ["page alone"]
    assert DOCUMENT.sections[0].sentences == []  # quiet texts are not sentences


CELLS = {
    "=1+1": "'=1+1", "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "+1+1": "'+1+1", "-1+cmd": "'-1+cmd",
    "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", " =1": "' =1", "\r=1": "'\\r=1", "-x.npz": "'-x.npz",
    "-0.5": "-0.5", "+1e-3": "+1e-3", "-.5": "-.5", "-5.": "-5.", "−0.5": "−0.5", "a=b": "a=b", "": "",
    "he": "he", "a\x1b[2J": "a\\x1b[2J",
}  # fmt: skip


def test_csv_files_have_no_formulas_and_keep_numbers(own_folder):
    cells = [*CELLS]
    frame = pd.DataFrame({
        "text": cells, "=kind": pd.Categorical(cells), "n": range(-3, len(cells) - 3), "x": -0.5,
        "at": pd.Timestamp("2024-01-01", tz="UTC"), "none": [None] * len(cells),
    })  # fmt: skip
    document = Document("a", [Section("b", [], {"data": frame})])
    write_files(document, own_folder / "report", "page")
    with (own_folder / "report" / "data.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["text", "'=kind", "n", "x", "at", "none"]
    assert [row[:2] for row in rows] == [[shown, shown] for shown in CELLS.values()]
    assert [int(row[2]) for row in rows] == frame["n"].tolist()
    assert {tuple(row[3:]) for row in rows} == {("-0.5", "2024-01-01 00:00:00+00:00", "")}


def test_a_report_that_cannot_be_written_leaves_the_earlier_one_whole(own_folder, monkeypatch):
    folder = own_folder / "report"
    first, second = (
        Document(title, [Section("b", [Text(title)], {"data": pd.DataFrame({"text": [title]})})])
        for title in ("first", "second")
    )
    write_files(first, folder, "page", {"handout.html": "first"})
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(FnnexpError, match="No space left on device"):
            write_files(second, folder, "page", {"handout.html": "second"})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    write_files(second, folder, "page", {"handout.html": "second"})
    assert all(b"second" in file.read_bytes() for file in folder.iterdir())
    assert {file.name for file in folder.iterdir()} == before.keys()


def test_a_table_of_the_first_rows_says_how_many_there_are():
    table = Table("", ["name"], [[Cell("a")], [Cell("b")]], 1, EVERYWHERE, file="all.csv", total=1234)
    document = Document("x", [Section("y", [table])])
    sentence = "The first 2 of 1,234 rows are shown; all.csv has all."
    assert sentence in html.render(document)
    assert sentence in markdown.render(document)
    assert sentence not in html.render(Document("x", [Section("y", [table._replace(total=0)])]))
    console = Console(file=io.StringIO(), width=80)
    terminal.show(document, console)
    assert "1,232 more rows in all.csv" in console.file.getvalue()
