"""Sequences opened in a real browser: what is read there is what the store and the predictions hold."""

import re

import numpy as np
import polars as pl
import pytest
from browser import KEYS, NARROW, WIDE
from conftest import memgrid_here
from opened_maker import make_opened

import memgrid
from memgrid.report.viewer.packed import ERROR

TOKENS, LIVE, LAYER = '[data-v="tokens"]', '[data-v="live"]', '[data-v="layer"]'


@pytest.fixture(scope="module")
def run(caused):
    """The run whose sequences are opened."""
    return memgrid.open_run(next(caused.glob("runs/*/*/*/metrics.json")).parent)


@pytest.fixture(scope="module")
def page(caused, tmp_path_factory):
    """The report on it, with text."""
    out = tmp_path_factory.mktemp("report")
    memgrid_here(f"root={caused}", f"out={out}", "text=true", module="report", seen=False)
    return out / "index.html"


@pytest.fixture
def opened(window, page):
    """The page, anew."""
    window.size(*WIDE)
    window.scheme("light")
    return window.open(page)


def address(opened):
    """What the address names."""
    return dict(re.findall(r"(\w+)=([^&]*)", opened.run("return location.hash")))


def shown(opened):
    """The sequence that is open."""
    return int(re.match(r"Sequence (\d+) is", opened.texts('[data-v="head"]')[0])[1])


def chip(opened, place):
    """A token."""
    return opened.one(f"#viewer-token-{place}")


def hover(opened, place):
    """Point at a token with a mouse."""
    script = "arguments[0].scrollIntoView({block: 'center'}); const {x, y, width, height} = arguments[0].getClientRects()[0];"
    x, y = opened.run(f"{script} return [x + width / 2, y + height / 2]", chip(opened, place))
    opened.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, pointerType="mouse")
    return opened.texts(LIVE)[0]


def tokens_of(run, sequence_id):
    """The text of the tokens on which the store's attention is, each as it stands in quotes."""
    decoded = run.store.read([sequence_id], ()).decoded[0]
    return [text.replace("\n", "↵").replace("\t", "⇥").strip() for text in run.tokenizer.detokenize(decoded[:, None])]


def shares(text):
    """The places that a sentence names, each with its share."""
    return {int(place): float(share) / 100 for place, share in re.findall(r"(\d+) “[^”]*” \(([\d.]+)\s%", text)}


def choose(opened, name, value):
    """Choose one of a list."""
    opened.run(
        "const s = document.querySelector(`[data-v='${arguments[0]}']`); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        name,
        str(value),
    )


def test_it_begins_with_the_last_class_where_delta_is_largest(opened, run):
    delta = run.decision_maps()["Recall"]
    layer = delta.sum((1, 2)).argmax()
    assert opened.texts('[data-v="head"]')[0].startswith(f"Sequence {shown(opened)} is Recall; the panel takes it for ")
    assert f"Layer {layer + 1} of {len(delta)}, token " in opened.texts(LIVE)[0]
    counts = np.tril(delta[layer] * run.attention(shown(opened))[layer], -1)[32:].sum(1)
    token = int(re.search(r"token (\d+) “", opened.texts(LIVE)[0])[1])
    assert counts[token - 32] == pytest.approx(counts.max(), rel=0.02)
    assert opened.complaints() == []
    assert opened.requests() == []


def test_pointing_at_a_token_tells_what_the_store_holds(opened, run):
    layer = int(opened.one(LAYER).get_attribute("value")) - 1
    attention, words = run.attention(shown(opened))[layer], tokens_of(run, shown(opened))
    for place in (20, 45):
        text = hover(opened, place)
        assert f"token {place} “{words[place]}”" in text
        to = re.search(r"It attends most to (.*?)(;|\. )", text)[1]
        named = shares(to)
        assert list(named) == np.argsort(-attention[place], kind="stable")[:3].tolist()
        assert named == pytest.approx({key: attention[place, key] for key in named}, abs=ERROR + 0.005)
        by = shares(re.search(r"attended to most by (.*?)\. For", text)[1])
        assert by == pytest.approx({query: attention[query, place] for query in by}, abs=ERROR + 0.005)
        delta = run.decision_maps()["Recall"]
        counted = shares(re.search(r"Δ is largest where it attends to (.*)\.", text)[1])
        assert counted == pytest.approx({key: delta[layer, place, key] / delta.max() for key in counted}, abs=ERROR + 0.005)
        assert len(re.findall(r"\s% of the largest Δ\)", text)) == 1
    assert chip(opened, 45).get_attribute("aria-selected") == "true"


def test_keys_go_through_tokens_and_layers(opened, run):
    opened.click(TOKENS)
    opened.press(KEYS.HOME, KEYS.ARROW_RIGHT, KEYS.ARROW_RIGHT)
    assert address(opened)["token"] == "2"
    for _ in range(8):
        opened.press(KEYS.ARROW_DOWN)
    opened.press(KEYS.ARROW_UP)
    assert address(opened)["layer"] == "2"
    attention = run.attention(shown(opened))[1]
    text = opened.texts(LIVE)[0]
    assert "Layer 2 of" in text
    assert shares(re.search(r"It attends most to (.*?);", text)[1]) == pytest.approx(dict(enumerate(attention[2, :3])), abs=ERROR + 0.005)


def test_the_slider_and_the_views_change_what_is_shown(opened, run):
    choose(opened, "layer", 1)
    opened.run("document.querySelector(arguments[0]).dispatchEvent(new Event('input'))", LAYER)
    opened.click(TOKENS)
    opened.press(KEYS.END)
    seen = {}
    for view in ("mean", "max", "delta", "difference"):
        opened.run("document.querySelector(`input[value=${arguments[0]}]`).click()", view)
        seen[view] = (opened.run("return document.querySelector('[data-v=map-0]').toDataURL()"), opened.texts(LIVE)[0])
        assert address(opened)["view"] == view
        assert address(opened)["layer"] == "1"
    assert len({pixels for pixels, _ in seen.values()}) == 4
    for view, start in (("mean", "It attends most to"), ("max", "It attends most with one of its heads to")):
        attention = run.attention(shown(opened), view)[0, 63]
        named = shares(re.search(rf"{start} (.*?)\. ", seen[view][1])[1])
        assert named == pytest.approx({key: attention[key] for key in named}, abs=ERROR + 0.005)
    evaluated = run.samples.filter(side="eval")
    means = {title: run.attention_of(evaluated.filter(title=title)["sequence_id"].to_list()).mean(0) for title in run.classes}
    apart = (means["Recall"] - np.mean([means[title] for title in run.classes if title != "Recall"], axis=0))[0, 63]
    points = re.findall(r"(\d+) “[^”]*” \(([+−])([\d.]+)\spoints", seen["difference"][1])
    assert len(points) == 3
    for key, sign, size in points:
        assert float(f"{'-' if sign == '−' else ''}{size}") / 100 == pytest.approx(apart[int(key)], abs=0.002)


def test_the_table_says_the_same_without_a_picture(opened, run):
    opened.click(TOKENS)
    opened.press(KEYS.END)
    opened.click(".v-as-table summary")
    opened.until(lambda: opened.all('[data-v="table"] tbody tr'))
    rows = [
        text.split("\t")
        for text in opened.run(
            "return [...document.querySelectorAll('[data-v=table] tbody tr')].map(r => [...r.cells].map(c => c.textContent).join('\\t'))"
        )
    ]
    assert len(rows) == 64
    attention = run.attention(shown(opened))[int(address(opened)["layer"]) - 1, 63]
    assert [float(row[2].split()[0]) / 100 for row in rows] == pytest.approx([attention[int(row[0])] for row in rows], abs=ERROR + 0.005)


def test_a_map_tells_the_position_that_is_pointed_at(opened, run):
    canvas = opened.one('[data-v="map-0"]')
    opened.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y, width, height = opened.run("const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width, b.height]", canvas)
    opened.command("Input.dispatchMouseEvent", type="mouseMoved", x=x + 0.3 * width, y=y + 0.8 * height, pointerType="mouse")
    told = opened.texts('[data-v="read"]')[0]
    query, key = map(int, re.match(r"(\d+) “.*?” → (\d+) “", told).groups())
    assert (query, key) == pytest.approx((0.8 * 64, 0.3 * 64), abs=3)
    attention = run.attention(shown(opened))[int(opened.one(LAYER).get_attribute("value")) - 1]
    assert float(re.search(r"mean over heads ([\d.]+)\s%", told)[1]) / 100 == pytest.approx(attention[query, key], abs=ERROR + 0.005)


def cell_of(run, network=None):
    """A cell off the diagonal that has sequences, by the places of its classes, and these."""
    table = run.predictions_of(network)
    counts = table.filter(~pl.col("correct")).group_by("label", "predicted").len().sort("len", "label", "predicted", descending=True)
    label, predicted, _ = counts.row(0)
    return (run.classes.index(label), run.classes.index(predicted)), table.filter(label=label, predicted=predicted)


def listed(opened):
    """The rows of the list."""
    script = (
        "return [...document.querySelectorAll('[data-v=list] tbody tr')].map(r => [...r.cells].map(c => [c.innerText.trim(), c.title]))"
    )
    return opened.run(script)


def test_a_cell_lists_its_sequences_with_what_everybody_says(opened, run):
    (label, said), table = cell_of(run)
    opened.click(f'button[data-cell="{label}.{said}"]')
    rows = {int(row[0][0]): row[1:] for row in listed(opened)}
    assert set(rows) == set(table["sequence_id"])
    headings = opened.texts('[data-v="list"] thead th')[1:]
    others = [*run.metrics.members, *run.folder.table(run.folder.baselines).columns[2:]]
    assert headings == ["the panel", *others]
    for column, name in enumerate([None, *others]):
        answers = {row["sequence_id"]: row for row in run.predictions_of(name).iter_rows(named=True)}
        for sequence_id, cells in rows.items():
            text, title = cells[column]
            assert float(text.removesuffix("\xa0%")) / 100 == pytest.approx(answers[sequence_id][run.classes[said]], abs=0.0051)
            for other, share in re.findall(r"([\w-]+) ([\d.]+)\s%", title.partition(": ")[2]):
                assert float(share) / 100 == pytest.approx(answers[sequence_id][other], abs=0.0051)


def test_the_list_is_sorted_by_what_is_asked(opened, run):
    (label, said), _ = cell_of(run)
    opened.click(f'button[data-cell="{label}.{said}"]')
    for sign in (-1, 1):
        opened.run("[...document.querySelectorAll('[data-v=list] thead button')].find(b => b.textContent.startsWith('tokens')).click()")
        answers = dict(run.predictions_of("tokens").select("sequence_id", run.classes[said]).iter_rows())
        order = [answers[int(row[0][0])] for row in listed(opened)]
        assert [sign * value for value in order] == pytest.approx(sorted(sign * value for value in order), abs=1e-4)
        assert opened.one('[data-v="list"] th[aria-sort="descending"], [data-v="list"] th[aria-sort="ascending"]').text.startswith("tokens")


def test_other_judges_have_other_cells(opened, run):
    choose(opened, "judge", 1 + len(run.metrics.members))
    (label, said), table = cell_of(run, "tokens")
    assert opened.texts(f'button[data-cell="{label}.{said}"] b') == [str(table.height)]
    opened.click(f'button[data-cell="{label}.{said}"]')
    assert {int(row[0][0]) for row in listed(opened)} == set(table["sequence_id"])
    assert "by tokens" in opened.texts('[data-v="cell-head"]')[0]


def test_a_sequence_of_a_cell_opens_and_its_link_opens_it_again(opened, page):
    cell = opened.run("return [...document.querySelectorAll('[data-v=confusion] button:not(:disabled)')].at(-2).dataset.cell")
    opened.click(f'button[data-cell="{cell}"]')
    wanted = int(opened.texts('[data-v="list"] tbody button')[0])
    opened.click('[data-v="list"] tbody button')
    assert shown(opened) == wanted
    opened.press(KEYS.ARROW_LEFT)
    link, told = opened.run("return location.hash"), opened.texts(LIVE)[0]
    opened.open(page, link)
    assert (shown(opened), opened.texts(LIVE)[0]) == (wanted, told)
    assert opened.one(f'button[data-cell="{cell}"]').get_attribute("aria-pressed") == "true"
    opened.open(page, f"#sequence={wanted}&layer=2&view=max")
    assert (shown(opened), address(opened)["layer"]) == (wanted, "2")
    assert "Layer 2 of" in opened.texts(LIVE)[0]
    assert opened.one("input[value=max]").is_selected()


def test_a_link_to_a_sequence_that_is_not_there_says_so(opened, page):
    opened.open(page, "#sequence=987654321")
    assert opened.texts('[data-v="hint"]')[0].startswith("Sequence 987654321 is not on this page.")
    assert opened.complaints() == []


def test_what_a_run_has_not_is_not_shown(window, tmp_path):
    make_opened(tmp_path, attention=False, delta=False)
    memgrid_here(f"root={tmp_path}", module="report", seen=False)
    window.open(tmp_path / "report/index.html", "#viewer?cell=2.2")
    assert window.texts('[data-v="hint"]') == [
        "The attention of this run is not on the page: of a sequence there is only what is said of it."
    ]
    for selector in (TOKENS, ".v-what", ".v-maps", LIVE):
        assert not window.one(selector).is_displayed()
    assert len(window.all('[data-v="list"] tbody tr')) == int(window.texts('button[data-cell="2.2"] b')[0]) > 0
    window.scheme("dark")
    window.run("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    assert window.violations("#viewer") == {}
    assert window.complaints() == []


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "light"), (WIDE, "dark"), (NARROW, "dark")])
def test_everybody_can_use_it(opened, page, size, scheme):
    opened.size(*size)
    opened.scheme(scheme)
    opened.open(page)
    opened.click('[data-v="confusion"] button:not(:disabled)')
    opened.click(".v-as-table summary")
    opened.click(".v-how summary")
    assert opened.violations("#viewer") == {}
    assert opened.cut_off() == []
    assert opened.complaints() == []
    assert opened.requests() == []


def test_dark_is_drawn_anew_and_paper_is_light(opened):
    pixels = "return document.querySelector('[data-v=map-0]').toDataURL()"
    light = opened.run(pixels)
    opened.scheme("dark")
    opened.until(lambda: opened.run(pixels) != light)
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run(pixels) == light
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.run(pixels) != light
