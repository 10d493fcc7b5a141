"""Check that the elements of a figure do not overlap, by Matplotlib's bounding boxes."""

from itertools import combinations


def apart(boxes):
    """Return whether no two boxes overlap."""
    return not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def assert_legible(figure):
    """Assert that panels with their labels, texts and the legend of a figure do not overlap."""
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    texts = [text.get_window_extent() for text in figure.texts]
    assert apart([legend, *texts, *(ax.get_tightbbox() for ax in figure.axes)])
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width
