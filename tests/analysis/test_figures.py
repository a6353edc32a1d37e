"""The house's colors: seen on white, and told apart by every reader, no worse than seaborn's color-blind-safe set."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from kdnb.analysis import figures
from kdnb.studies.dark_knowledge import gain_figures

SEEN = {  # linear RGB as it is seen: Machado, Oliveira & Fernandes 2009, severity 1
    "all cones": np.eye(3),
    "no L cone": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M cone": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S cone": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]  # sRGB, D65


def linear(color):
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast_on_white(color):
    """As WCAG 2 defines it."""
    return 1.05 / (linear(color) @ XYZ[1] + 0.05)


def lab(rgb):
    """CIELAB of linear RGB."""
    x, y, z = np.cbrt(np.maximum(np.array(XYZ) @ rgb.clip(0, 1) / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colors, cones):
    """The least distance of two of some colors as they are seen [CIELAB 1976]."""
    seen = [lab(np.array(SEEN[cones]) @ linear(color)) for color in colors]
    return min(np.linalg.norm(one - other) for one, other in combinations(seen, 2))


@pytest.mark.parametrize("color", figures.PALETTE)
def test_a_mark_has_three_to_one_on_white(color):
    assert contrast_on_white(color) >= 3


def test_the_contrast_is_that_of_wcag():
    assert contrast_on_white("black") == pytest.approx(21)
    assert contrast_on_white("#767676") == pytest.approx(4.54, abs=0.01)  # the lightest grey for text


@pytest.mark.parametrize("cones", SEEN)
def test_methods_are_told_apart_as_well_as_by_seaborns_set(cones):
    ours = [*figures.METHOD_COLORS.values(), figures.TEACHER_COLOR]
    places = [figures.PALETTE.index(color) for color in ours]
    theirs = [sns.color_palette("colorblind")[place] for place in places]
    worst = min(nearest(theirs, one) for one in SEEN)
    assert len(set(ours)) == len(ours) == 7
    assert nearest(ours, cones) > worst


def test_every_method_has_a_marker_of_its_own_beside_its_color():
    assert len(set(figures.METHOD_MARKERS.values())) == len(figures.METHOD_COLORS)
    for looks in zip(*gain_figures.LOOKS.values(), strict=True):  # all colors, then all markers
        assert len(set(looks)) == len(gain_figures.LOOKS)


def test_what_a_figure_draws_without_saying_a_color_has_one_of_ours():
    figures.theme()
    assert [color.upper() for color in sns.color_palette().as_hex()] == list(figures.PALETTE)


def test_changes_are_drawn_at_their_values_in_their_units():
    arms, shown = (("ls_small", "LS small"), ("kd_standard", "Standard KD")), ("entropy", "nll", "accuracy")
    rows = [("rt", arm, name, metric, 0.1, 0.05, 0.2, 3, 0) for arm, name in arms for metric in shown]
    rows += [("mrpc", "kd_self", "Self-KD", metric, -0.2, -np.inf, np.inf, 1, 0) for metric in shown]
    columns = ["task", "arm", "name", "metric", "effect", "low", "high", "n", "degenerate"]
    fig = figures.changes(pd.DataFrame(rows, columns=columns), Figure())
    assert [ax.get_title() for ax in fig.axes] == ["entropy", "NLL", "accuracy"]
    for ax, scale in zip(fig.axes, (1, 1, 100), strict=True):
        marks = [line.get_xydata()[0] for line in ax.lines if line.get_marker() in figures.METHOD_MARKERS.values()]
        np.testing.assert_allclose(marks, [(0.1 * scale, 0), (0.1 * scale, 1), (-0.2 * scale, 2)])
        spans = [segment[:, 0] for bars in ax.collections for segment in bars.get_segments()]
        np.testing.assert_allclose(spans, [[0.05 * scale, 0.2 * scale]] * 2)  # one seed has no interval
    assert [text.get_text() for text in fig.axes[-1].texts] == ["rt", "mrpc"]
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["LS small", "Standard KD", "Self-KD"]
