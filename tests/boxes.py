"""Whether what a figure shows lies apart, by the boxes that Matplotlib gives."""

from itertools import combinations


def apart(boxes):
    """Whether no box overlaps another."""
    return not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def assert_legible(figure):
    """Draw a figure; none of its panels with their labels, its texts and its legend may overlap another."""
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    texts = [text.get_window_extent() for text in figure.texts]
    assert apart([legend, *texts, *(ax.get_tightbbox() for ax in figure.axes)])
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width
