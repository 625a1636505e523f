import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from painting import UNSEEN, leave_out

from memgrid.report.figures.run import MAP_LAYERS, draw_confusion, draw_maps
from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    SINGLE,
    TEXT,
    TITLE,
    draw_confusions,
    figure,
    ink,
    limits,
    spread_out,
    text_width,
    wrapped,
)

LONG = "Reconstruct-or-Recollect[1k]"


class Drawing:
    """What was drawn as PNG: the figure's size and every text with the box it takes, in pixels."""

    def __init__(self):
        self.texts, self.figures, self.size = {}, [], np.zeros(2)

    def found(self, pattern):
        return [text for text, _ in self.texts.values() if re.search(pattern, text.get_text())]

    def check(self, path, also=()):
        """Files are whole, nothing is cut off, no two texts overlap, all have one of the two sizes (or `also`), the figure fits a paper."""
        image = imread(f"{path}.png")[..., :3]
        assert image[::5, ::5].std() > 0.02  # not blank
        assert min(image[0].min(), image[-1].min(), image[:, 0].min(), image[:, -1].min()) > 0.95  # nothing reaches the border
        assert (path.parent / f"{path.name}.pdf").read_bytes().startswith(b"%PDF")
        assert self.size[0] <= 200 * DOUBLE + 1
        texts = [text for text, _ in self.texts.values()]
        assert texts
        assert {text.get_fontsize() for text in texts} <= {TEXT, TITLE, *also}
        boxes = np.array([box.extents for _, box in self.texts.values()])
        outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2:] > self.size).any(1)
        assert not outside.any(), [texts[at].get_text() for at in np.flatnonzero(outside)]
        low, high = boxes[:, :2], boxes[:, 2:] - 1  # less than a pixel is no overlap
        over = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(2) & ~np.eye(len(texts), dtype=bool)
        assert not over.any(), [(texts[i].get_text(), texts[j].get_text()) for i, j in np.argwhere(over)]


def recorded(monkeypatch):
    """A Drawing that notes what is drawn from now on.

    Pictures are compressed a little, which takes a fifth of the time and loses nothing; by day documents, at which nothing here looks,
    are not painted.
    """
    made = Drawing()
    draw_text, draw_figure, save = Text.draw, Figure.draw, Figure.savefig

    def recorded_text(self, renderer):
        if isinstance(renderer, RendererAgg) and self.get_visible() and self.get_text().strip():
            made.texts[id(self)] = (self, self.get_window_extent(renderer))
        return draw_text(self, renderer)

    def recorded_figure(self, renderer):
        if isinstance(renderer, RendererAgg):
            made.texts.clear()
            made.figures.append(self)
            made.size = np.array(self.bbox.size)
        return draw_figure(self, renderer)

    def quickly_saved(self, file, format, **options):
        if format == "pdf":
            return leave_out(self, file, format) if UNSEEN else save(self, file, format=format, **options)
        return save(self, file, format=format, **options, pil_kwargs={"compress_level": 1})

    monkeypatch.setattr(Text, "draw", recorded_text)
    monkeypatch.setattr(Figure, "draw", recorded_figure)
    monkeypatch.setattr(Figure, "savefig", quickly_saved)
    return made


@pytest.fixture
def drawing(monkeypatch):
    return recorded(monkeypatch)


def some_counts(classes, seed=0):
    return np.random.default_rng(seed).integers(0, 900, (classes, classes)) + 15000 * np.eye(classes, dtype=int)


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.45), (0.99, 0.9), (0.5, -0.02)])
def test_the_check_sees_texts_that_overlap_or_leave_the_figure(x, y, drawing, tmp_path):
    with figure(tmp_path / "bad", SINGLE, 1.0) as made:
        made.text(0.5, 0.5, "here")
        made.text(x, y, "there")
    with pytest.raises(AssertionError):
        drawing.check(tmp_path / "bad")


@pytest.mark.parametrize(
    "titles",
    [
        ["A", "B"],
        ["Non-Memo", LONG, "Recite[1k]-or-Reconstruct", "Others"],
        [f"Class {i}" for i in range(9)],
    ],
    ids=len,
)
def test_confusion(titles, drawing, tmp_path):
    counts = some_counts(len(titles))
    counts[-1] = 0
    draw_confusion(counts, titles, "Recite[50], Reconstruct, Others: 8 CNNs, min-F1 71.2", tmp_path / "deep" / "confusion")
    drawing.check(tmp_path / "deep" / "confusion")
    assert len(drawing.found("^–$")) == len(titles)  # a class without samples has no shares
    assert len(drawing.found(f"^{counts[0, 0] / counts[0].sum():.0%}\n{counts[0, 0]}$")) == 1


@pytest.mark.parametrize(
    ("panels", "titles"),
    [
        (1, ["A", "B"]),
        (30, ["Non-Memo", LONG, "Others"]),
        (5, ["Non-Memo", "Recollect[1k]", "Reconstruct", "Others"]),
        (3, [LONG] * 8),
    ],
)
def test_confusions(panels, titles, drawing, tmp_path):
    counts = some_counts(len(titles))
    counts[1] = 0
    draw_confusions([(f"{LONG}, Others: min-F1 {i}", counts, titles) for i in range(panels)], tmp_path / "confusions")
    drawing.check(tmp_path / "confusions")
    assert len(drawing.found("min-F1")) == panels
    assert len(drawing.found("^–$")) == panels * len(titles)


@pytest.mark.parametrize(("layers", "classes"), [(1, 1), (6, 2), (36, 3)])
def test_maps_of_any_number_of_layers(layers, classes, drawing, tmp_path):
    maps = {LONG[i:]: np.random.default_rng(i).random((2080, layers)).astype(np.float16) for i in range(classes)}
    draw_maps(maps, 64, 32, "mean", tmp_path / "maps")
    drawing.check(tmp_path / "maps")
    assert len(drawing.found("^layer ")) == classes * min(layers, MAP_LAYERS)
    assert drawing.found(f"^layer {layers}$")


def test_files_are_the_same_each_time_have_their_size_and_keep_a_dot_in_the_name(tmp_path):
    for name in ("pythia-2.8b", "again"):
        with figure(tmp_path / name, SINGLE, 1.0) as made:
            made.text(0.5, 0.5, "$no formula", ha="center")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.pdf", "again.png", "pythia-2.8b.pdf", "pythia-2.8b.png"]
    assert imread(tmp_path / "again.png").shape[:2] == (200, 680)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"again.{kind}").read_bytes() == (tmp_path / f"pythia-2.8b.{kind}").read_bytes()


def test_a_users_style_changes_nothing(drawing, tmp_path):
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "text.usetex": True, "axes.labelsize": 3}):
        draw_confusion(some_counts(2), ["A", "B"], "caption", tmp_path / "styled")
        assert matplotlib.rcParams["font.size"] == 20
    drawing.check(tmp_path / "styled")


@pytest.mark.parametrize("width", [0.3, 0.8, 1.1, 3.2])
@pytest.mark.parametrize("text", [LONG, "Non-Memo, Recite[1k]-or-Reconstruct, Others", "", "x" * 60, "a - b", "ümlaut_and/slash $"])
def test_wrapped_text_fits_and_loses_nothing(text, width):
    lines = wrapped(text, width).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line) <= width for line in lines)
    short = wrapped(text, width, lines=1)
    assert short == text or short.endswith("…") or text.startswith(short)
    assert text_width(short) <= width


def test_words_are_cut_only_where_they_must_be():
    assert wrapped("Non-Memo, Recite[5], Others", 1.2) == "Non-Memo,\nRecite[5], Others"
    assert wrapped(LONG, 1.1) == "Reconstruct-or-\nRecollect[1k]"


def test_labels_move_apart_as_little_as_possible():
    wanted, heights = np.array([1.0, 1.0, 1.1, 3.0]), np.array([0.4, 0.2, 0.2, 0.4])
    placed = spread_out(wanted, heights, 4.0)
    assert (np.diff(placed) >= (heights[1:] + heights[:-1]) / 2 - 1e-9).all()
    assert placed[3] == 3.0
    assert (placed - wanted)[:3].sum() == pytest.approx(0)
    for ends in (np.zeros(3), np.full(3, 9.0)):
        inside = spread_out(ends, np.full(3, 0.5), 2.0)
        assert inside.min() >= 0.25
        assert inside.max() <= 1.75
        assert np.diff(inside) == pytest.approx(0.5)


def pooled(values):
    """Pool adjacent violators, by hand."""
    groups = []
    for value in values:
        groups.append((value, 1))
        while len(groups) > 1 and groups[-2][0] >= groups[-1][0]:
            (second, m), (first, n) = groups.pop(), groups.pop()
            groups.append(((first * n + second * m) / (n + m), n + m))
    return np.repeat([mean for mean, _ in groups], [n for _, n in groups])


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 2)), min_size=1, max_size=30))
def test_labels_lie_where_pooling_by_hand_puts_them(boxes):
    wanted, heights = np.array(boxes).T
    before = np.concatenate([[0], np.cumsum((heights[1:] + heights[:-1]) / 2)])
    expected = np.clip(pooled(wanted - before), heights[0] / 2, 3.0 - heights[-1] / 2 - before[-1]) + before
    np.testing.assert_allclose(spread_out(wanted, heights, 3.0), expected, rtol=0, atol=1e-12 * max(1.0, before[-1]))


@pytest.mark.parametrize("values", [[], [np.nan], [50.0], [0.0, 100.0], [99.9, 100.0], [0.0], [40.0, np.nan, 80.0]])
def test_limits_hold_every_value_and_stay_near_the_scale(values):
    low, high = limits(np.array(values))
    finite = [value for value in values if np.isfinite(value)]
    assert high - low >= 5
    assert low >= -1.5
    assert high <= 101.5
    assert all(low < value < high for value in finite)


def test_ink_is_readable_on_every_shade():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    for shade in matplotlib.colormaps["cividis"](np.linspace(0, 1, 40)):
        text = 0.0 if ink(shade) == "black" else 1.0
        light, dark = max(luminance(shade), text), min(luminance(shade), text)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


# Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_colours_differ_for_everyone(kind):
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(BLIND[kind]).T, 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert apart[~np.eye(len(COLOURS), dtype=bool)].min() > 0.1
