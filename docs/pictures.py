"""Draw the pictures of docs/howto/formats.md: ``python -m docs.pictures`` writes them beside the page."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits, load_wine

from docs import ROOT

FOLDER = ROOT / "docs" / "howto"
DIGITS = load_digits()
SHOWN = 4
"""Images beside a file."""

INK, TRAIN, TEST, LABEL = "#222222", "#dbe9f6", "#fde8cd", "#d9f0d3"
"""The colours of texts, training rows, test rows and labels."""

MONO = {"family": "monospace", "size": 8, "color": INK}


def figure(wide: float = 7.5, high: float = 2.2) -> tuple[Figure, Axes]:
    """Return a figure whose axes are measured in inches, from the lower left corner."""
    drawn = Figure((wide, high), facecolor="white")
    ax = drawn.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(0, high), aspect="equal")
    ax.axis("off")
    return drawn, ax


def box(ax: Axes, left: float, top: float, wide: float, text: str, colour: str, **font: object) -> float:
    """Draw a box with lines of text under its top edge; return its lower edge."""
    high = 0.16 * (text.count("\n") + 1) + 0.1
    ax.add_patch(Rectangle((left, top - high), wide, high, facecolor=colour, edgecolor="#888888"))
    ax.text(left + 0.08, top - 0.06, text, verticalalignment="top", linespacing=1.35, **{**MONO, **font})
    return top - high


def title(ax: Axes, left: float, top: float, text: str) -> None:
    """Write a title above a place."""
    ax.text(left, top, text, size=8.5, weight="bold", color=INK, verticalalignment="bottom")


def images(ax: Axes, left: float, low: float, side: float, first: int = 0) -> None:
    """Draw some digits with their labels below, as a network sees them."""
    for k in range(SHOWN):
        x = left + k * (side + 0.12)
        ax.imshow(DIGITS.images[first + k], cmap="gray_r", extent=(x, x + side, low, low + side), zorder=3)
        ax.add_patch(Rectangle((x, low), side, side, fill=False, edgecolor="#888888", zorder=4))
        text = f"{DIGITS.target[first + k]}"
        ax.text(x + side / 2, low - 0.06, text, ha="center", va="top", size=8.5, color=INK)


def arrow(ax: Axes, left: float, right: float, y: float) -> None:
    """Draw an arrow to the right."""
    ax.annotate("", (right, y), (left, y), arrowprops={"arrowstyle": "->", "color": INK})


def both_sets(ax: Axes, left: float, train: str = "training rows", test: str = "test rows") -> None:
    """Draw training and test images at the right of a figure."""
    title(ax, left, 2.0, train)
    images(ax, left, 1.35, 0.6)
    title(ax, left, 0.95, test)
    images(ax, left, 0.3, 0.6, 1500)


def csv_rows(first: int, count: int) -> str:
    """Return the first pixels of some rows as a CSV has them."""
    pixels = (DIGITS.images * 15.9375).astype(int).reshape(len(DIGITS.images), -1)
    lines = ["label,0,1,2,3,4,5,…,63"]
    for k in range(first, first + count):
        lines.append(f"{DIGITS.target[k]},{','.join(map(str, pixels[k, :6]))},…,{pixels[k, 63]}")
    return "\n".join([*lines, "…"])


def npz() -> Figure:
    """Draw an .npz file."""
    drawn, ax = figure()
    title(ax, 0.15, 2.0, "my.npz")
    low = box(ax, 0.15, 1.95, 3.2, "x_train  uint8  (1500, 8, 8)", TRAIN)
    low = box(ax, 0.15, low - 0.06, 3.2, "y_train  int64  (1500,)", LABEL)
    low = box(ax, 0.15, low - 0.16, 3.2, "x_test   uint8  (297, 8, 8)", TEST)
    box(ax, 0.15, low - 0.06, 3.2, "y_test   int64  (297,)", LABEL)
    arrow(ax, 3.5, 4.2, 1.1)
    both_sets(ax, 4.4)
    return drawn


def idx() -> Figure:
    """Draw a folder of IDX files."""
    drawn, ax = figure()
    title(ax, 0.15, 2.0, "my_idx/")
    files = (
        ("train-images-idx3-ubyte   0 0 8 3  1500 8 8  0 0 79 207 …", TRAIN),
        ("train-labels-idx1-ubyte   0 0 8 1  1500      0 1 2 3 …", LABEL),
        ("t10k-images-idx3-ubyte    0 0 8 3  297 8 8   0 0 15 127 …", TEST),
        ("t10k-labels-idx1-ubyte    0 0 8 1  297       1 7 4 6 …", LABEL),
    )
    low = 2.01
    for text, colour in files:
        low = box(ax, 0.15, low - 0.06, 4.05, text, colour, size=7)
    caption = f"{'':26}kind     shape     values"
    ax.text(0.23, low - 0.2, caption, **{**MONO, "size": 7})
    arrow(ax, 4.3, 4.55, 1.1)
    both_sets(ax, 4.65)
    return drawn


def csv() -> Figure:
    """Draw two CSV files."""
    drawn, ax = figure()
    title(ax, 0.15, 2.0, "my_csv/train.csv")
    low = box(ax, 0.15, 1.95, 3.2, csv_rows(0, 3), TRAIN)
    title(ax, 0.15, low - 0.22, "my_csv/test.csv")
    box(ax, 0.15, low - 0.26, 3.2, csv_rows(1500, 1), TEST)
    arrow(ax, 3.5, 4.2, 1.1)
    both_sets(ax, 4.4)
    return drawn


def one_csv() -> Figure:
    """Draw a CSV file that is split."""
    drawn, ax = figure()
    title(ax, 0.15, 2.0, "all.csv")
    box(ax, 0.15, 1.95, 3.2, csv_rows(0, 8), "#f2f2f2")
    arrow(ax, 3.5, 4.2, 1.1)
    both_sets(ax, 4.4, "four fifths of each class: training rows", "a fifth of each class: test rows")
    return drawn


def real() -> Figure:
    """Draw a CSV file of measurements."""
    drawn, ax = figure(high=1.3)
    wine = load_wine()
    chosen = wine.data[[0, 60, 140]][:, [0, 3, 12]]
    scaled = (chosen - wine.data[:, [0, 3, 12]].mean(axis=0)) / wine.data[:, [0, 3, 12]].std(axis=0)
    rows = "\n".join(
        f"{a:7.2f}, … {b:6.1f}, … {c:7.0f}, {t:6d}"
        for (a, b, c), t in zip(chosen, wine.target[[0, 60, 140]], strict=True)
    )
    title(ax, 0.15, 1.06, "wine.csv")
    box(ax, 0.15, 1.0, 3.3, f"alcohol, … alcal…, … proline, target\n{rows}\n…", TRAIN)
    arrow(ax, 3.6, 4.3, 0.6)
    rows = "\n".join(f"{a:7.2f}  … {b:6.2f}  … {c:7.2f}" for a, b, c in scaled)
    title(ax, 4.5, 1.06, "inputs with data.scale=standardize")
    box(ax, 4.5, 1.0, 2.8, f"\n{rows}\n…", "#f2f2f2")
    return drawn


def folders() -> Figure:
    """Draw folders of images."""
    drawn, ax = figure()
    title(ax, 0.15, 2.0, "my_images/")
    low = 2.01
    for split, first, colour in (("train", 0, TRAIN), ("test", 1500, TEST)):
        names = [f"{DIGITS.target[k]}/{k - first}.png" for k in range(first, first + 3)]
        low = box(ax, 0.15, low - 0.06, 3.2, "\n".join(f"{split}/{name}" for name in [*names, "…"]), colour)
    arrow(ax, 3.5, 4.2, 1.1)
    both_sets(ax, 4.4)
    return drawn


def transpose() -> Figure:
    """Draw an image read by rows and by columns."""
    drawn, ax = figure(4.2, 1.5)
    for left, name, image in (
        (0.5, "row by row", DIGITS.images[2]),
        (2.4, "column by column", DIGITS.images[2].T),
    ):
        ax.imshow(image, cmap="gray_r", extent=(left, left + 1, 0.15, 1.15), zorder=3)
        ax.add_patch(Rectangle((left, 0.15), 1, 1, fill=False, edgecolor="#888888", zorder=4))
        ax.text(left + 0.5, 1.22, name, ha="center", size=8.5, color=INK)
    return drawn


PICTURES = (npz, idx, csv, one_csv, real, folders, transpose)


def main() -> None:
    """Write all pictures."""
    for draw in PICTURES:
        draw().savefig(FOLDER / f"formats_{draw.__name__}.png", dpi=130, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
