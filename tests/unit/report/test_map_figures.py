import numpy as np
import pytest
from matplotlib.image import imread
from test_run_figures import LONG, recorded

from memgrid.report.figures.causes.maps import (
    TOKEN_WIDTH,
    clipped,
    draw_decision_maps,
    draw_layer_shares,
    draw_randomization,
    draw_sequence,
    draw_teaser,
    legible,
)
from memgrid.report.figures.causes.paper import draw_side_by_side
from memgrid.report.figures.style import COLOURS, TEXT, TITLE, text_width

AWKWARD = ["\n", "\n\n    ", " the", "\t", "", "$x$", "\ufffd", "日本語", "🙂", "e\u0301", "antidisestablishmentarianism", "\x00", "}"]
AWKWARD += ["\u202e", "W" * 30, " "]


@pytest.fixture
def drawing(monkeypatch):
    return recorded(monkeypatch)


def some_delta(*shape, seed=0):
    """Like real ones: few positions take most, nothing above the diagonal."""
    values = np.random.default_rng(seed).random(shape) ** 8 * 3e-3
    return np.tril(values).astype(np.float32)


@pytest.mark.parametrize(("layers", "pages"), [(1, 1), (4, 1), (6, 1), (8, 2), (36, 6)])
def test_every_layer_is_on_one_page(layers, pages, drawing, tmp_path):
    delta = some_delta(layers, 64, 64)
    made = draw_decision_maps(delta, LONG, 32, tmp_path / "pythia-2.8b")
    assert [path.name for path in made] == [f"pythia-2.8b-{number}" for number in range(1, pages + 1)]
    drawing.check(made[-1])
    shown = [text.get_text() for text in drawing.found("^layer ")]
    assert shown == [f"layer {layer}" for layer in range(6 * (pages - 1) + 1, layers + 1)]
    assert bool(drawing.found(f"{layers}.* of {layers}$")) == (pages > 1)
    assert len(list(tmp_path.glob("*.png"))) == pages


def test_all_layers_of_a_class_share_a_scale(drawing, tmp_path):
    delta = some_delta(7, 16, 16)
    delta[6] /= 10
    draw_decision_maps(delta, "A", 8, tmp_path / "a")
    first, last = (figure.axes[0].images[0].get_array() for figure in (drawing.figures[0], drawing.figures[-1]))
    assert first.max() <= 1
    assert last.max() == pytest.approx(delta[6].max() / delta.max())
    assert np.isnan(last.filled(np.nan)[0, 1])


@pytest.mark.parametrize("titles", [["A"], ["Non-Memo", "Guess"], ["Non-Memo", LONG, "Others"], [LONG] * 8])
def test_teaser(titles, drawing, tmp_path):
    delta = some_delta(len(titles), 5, 64, 64)
    draw_teaser(delta, titles, 32, tmp_path / "teaser")
    drawing.check(tmp_path / "teaser")
    # Each class by its own largest value.
    images = [axes.images[0].get_array() for axes in drawing.figures[-1].axes if axes.get_xlabel() == "key" or axes.images]
    assert [image.max() for image in images[: len(titles)]] == pytest.approx([1] * len(titles))


def maps_drawn(figure, number):
    """The first axes with an image, which are maps, and that of the colour bar."""
    axes = [each for each in figure.axes if each.images]
    (bar,) = (each for each in figure.axes if each.get_ylabel().startswith("Δ"))
    return axes[:number], bar


def test_the_papers_teaser_has_one_scale(drawing, tmp_path):
    delta = some_delta(3, 4, 64, 64)
    delta[1] /= 10
    titles = ["Non-Memo", LONG, "Others"]
    draw_teaser(delta, titles, 32, tmp_path / "teaser", one_scale=True)
    drawing.check(tmp_path / "teaser")
    panels, bar = maps_drawn(drawing.figures[-1], 3)
    assert {panel.images[0].get_clim() for panel in panels} == {(0, 1)}
    assert {panel.images[0].norm.gamma for panel in panels} == {0.5}
    summed = delta.sum(1)
    assert [panel.images[0].get_array().max() for panel in panels] == pytest.approx([each.max() / summed.max() for each in summed])
    assert bar.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "Δ, share of the largest of all"


@pytest.mark.parametrize(("classes", "layers", "pages"), [(1, 1, 1), (3, 8, 2), (4, 6, 1), (8, 7, 2)])
def test_classes_side_by_side_share_the_scale_of_a_layer(classes, layers, pages, drawing, tmp_path):
    delta = some_delta(classes, layers, 64, 64)
    delta[:, 0] *= 100  # other layers are not pale beside it
    titles = ["Non-Memo", LONG, *(f"Class {at}" for at in range(classes))][:classes]
    made = draw_side_by_side(delta, titles, 32, tmp_path / "delta-layers")
    assert [path.name for path in made] == [f"delta-layers-{page}" for page in range(1, pages + 1)]
    drawing.check(made[-1])
    assert [text.get_text() for text in drawing.found("^layer")] == [f"layer {at}" for at in range(6 * (pages - 1) + 1, layers + 1)]
    panels, bar = maps_drawn(drawing.figures[0], classes * min(layers, 6))
    assert {panel.images[0].get_clim() for panel in panels} == {(0, 1)}
    assert {panel.images[0].norm.gamma for panel in panels} == {1 / 5}
    for row in range(min(layers, 6)):
        own = [panel.images[0].get_array().max() for panel in panels[row * classes : (row + 1) * classes]]
        assert own == pytest.approx([each[row].max() / delta[:, row].max() for each in delta])
    assert bar.get_ylabel().replace("\n", " ") == "Δ, share of the largest of its layer"


def test_a_class_without_a_decision_stays_white(drawing, tmp_path):
    delta = some_delta(3, 2, 64, 64)
    delta[1] = 0
    draw_teaser(delta, ["A", "B", "C"], 32, tmp_path / "teaser")
    drawing.check(tmp_path / "teaser")
    draw_layer_shares(delta, ["A", "B", "C"], tmp_path / "shares")
    drawing.check(tmp_path / "shares")
    assert drawing.figures[-1].axes[0].lines[1].get_ydata().tolist() == [0, 0]


@pytest.mark.parametrize(("classes", "layers"), [(1, 1), (3, 6), (4, 36), (8, 12)])
def test_layer_shares(classes, layers, drawing, tmp_path):
    delta = some_delta(classes, layers, 16, 16)
    delta[:, 0] *= 9
    draw_layer_shares(delta, [LONG[index:] for index in range(classes)], tmp_path / "shares")
    drawing.check(tmp_path / "shares")
    lines = drawing.figures[-1].axes[0].lines[:classes]
    assert [line.get_ydata().sum() for line in lines] == pytest.approx([100] * classes)


@pytest.mark.parametrize("length", [16, 64, 100])
def test_one_sequence_with_its_tokens(length, drawing, tmp_path, recwarn):
    attention, delta = (some_delta(6, length, length, seed=seed) for seed in (1, 2))
    delta[4] *= 3
    tokens = (AWKWARD * 7)[:length]
    draw_sequence(attention, delta, tokens, f"{LONG}: sequence 12", length // 2, tmp_path / "sequence")
    assert not [one for one in recwarn.list if "Glyph" in str(one.message)]
    image = imread(tmp_path / "sequence.png")[..., :3]
    assert image.shape[1] == drawing.size[0]
    assert min(image[0].min(), image[-1].min(), image[:, 0].min(), image[:, -1].min()) > 0.95
    texts = list(drawing.texts.values())
    assert {round(text.get_fontsize(), 1) for text, _ in texts} - {TEXT, TITLE} != set()
    boxes = np.array([box.extents for _, box in texts])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= drawing.size).all()
    low, high = boxes[:, :2], boxes[:, 2:] - 1
    over = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(2) & ~np.eye(len(texts), dtype=bool)
    assert not over.any(), [(texts[i][0].get_text(), texts[j][0].get_text()) for i, j in np.argwhere(over)]
    assert drawing.found("attention in layer 5")
    if length <= 64:
        labels = drawing.figures[-1].axes[0].get_yticklabels()
        assert len(labels) == length
        assert [label.get_color() for label in labels] == ["black"] * (length // 2) + [COLOURS[0]] * (length - length // 2)


def test_tokens_become_one_line_that_fits():
    assert legible("\n the\t") == "↵␣the⇥"
    assert legible("$x_é$") == "$x_é$"
    assert legible("") == "∅"
    assert legible("日\x00\u202ee\u0301") == "□□□e□"
    for token in AWKWARD:
        for size in (4.5, 6):
            assert text_width(clipped(legible(token), size), size) <= TOKEN_WIDTH
    assert clipped("antidisestablishmentarianism", 6).endswith("…")
    assert clipped("the", 6) == "the"


@pytest.mark.parametrize("lowest", [0.1, -0.6])
def test_randomisation(lowest, drawing, tmp_path):
    names = ("guided", "gradient", "integrated_gradients", "gradcam")
    found = {name: {layers: 1 + (lowest - 1) * layers / 4 - 0.03 * at for layers in range(5)} for at, name in enumerate(names)}
    draw_randomization(found, tmp_path / "randomisation")
    drawing.check(tmp_path / "randomisation")
    lines = drawing.figures[-1].axes[0].lines
    assert lines[0].get_ydata().tolist() == list(found["guided"].values())
    assert len(drawing.found("^(guided|gradient|integrated_gradients|gradcam)$")) == 4
