"""Which runs and sequences the page opens, what it is given of them, and what it never is."""

import base64
import json

import numpy as np
import pytest
from opened_maker import LAYERS, LENGTH, K, make_maps, make_opened
from pages import check, words
from painting import left_out
from runs_maker import Run, finish, make_runs, rewrite

from memgrid.io.paths import TOY
from memgrid.lm.triangle import Triangle
from memgrid.localize.maps import read_decision_maps
from memgrid.report.__main__ import PAIR, yes_or_no
from memgrid.report.report import gather, write_report
from memgrid.report.viewer import chosen, content
from memgrid.report.viewer.chosen import PANEL, chosen_runs
from memgrid.report.viewer.content import opened_runs
from memgrid.report.viewer.packed import ERROR, SIGNED_ERROR
from memgrid.report.viewer.section import section
from memgrid.report.viewer.words import tokenizer_of
from memgrid.results.folder import RunFolder
from memgrid.store.archive import open_store
from memgrid.store.store import Store


@pytest.fixture(scope="module", autouse=True)
def unseen():
    """No drawing is looked at here."""
    with left_out(True):
        yield


def report_of(root, text=False):
    return gather(root, root / "report", PAIR, text=text)


def one(root, **more):
    """What the page reads of the only run."""
    make_opened(root, **more)
    (found,) = opened_runs(report_of(root))
    return found.data


def values(plain, shape, signed=False):
    """Maps as the page reads them."""
    codes = np.frombuffer(base64.b64decode(plain["codes"]), np.uint8).reshape(*shape, -1).astype(float)
    roots = (codes - 128) / 127 if signed else codes / 255
    return np.array(plain["scales"]).reshape(*shape, 1) * roots * np.abs(roots)


def store_of(root):
    store = open_store(root / "attention/toy/toy")
    assert store is not None
    return store


def test_maps_are_those_of_the_store(tmp_path):
    data = one(tmp_path)
    assert (data["layers"], data["length"], data["k"]) == (LAYERS, LENGTH, K)
    assert len(data["sequences"]) == 36
    for name, entry in data["sequences"].items():
        stored = store_of(tmp_path).read([int(name)])
        for pool in ("mean", "max"):
            given = values(entry[pool], (LAYERS,))
            assert np.abs(given - stored.pools[pool][0].T).max() <= ERROR


def test_difference_is_the_mean_of_a_class_less_that_of_the_others(tmp_path):
    data, store = one(tmp_path), store_of(tmp_path)
    labels, ids = np.array(data["labels"]), np.array(data["ids"])
    means = [store.read(ids[labels == label]).pools["mean"].astype(float).mean(0).T for label in range(3)]
    given = values(data["difference"], (3, LAYERS), signed=True)
    for label in range(3):
        others = np.mean([means[other] for other in range(3) if other != label], axis=0)
        assert given[label] == pytest.approx(means[label] - others, abs=SIGNED_ERROR * np.abs(means[label] - others).max() + 1e-5)
    assert data["difference"]["samples"] == [12, 12, 12]


def test_decision_maps_are_in_the_order_of_the_classes(tmp_path):
    folder = make_opened(tmp_path)
    found = read_decision_maps(RunFolder(folder).decision_maps("guided"))
    report = report_of(tmp_path)
    (run,) = report.runs
    (opened,) = opened_runs(report)
    packed = Triangle(LENGTH).pack(found.values)
    for place, title in enumerate(run.result.classes):
        wanted = packed[found.classes.index(title)]
        assert np.abs(values(opened.data["delta"], (3, LAYERS))[place] - wanted).max() <= ERROR * wanted.max()
    assert (opened.data["delta"]["samples"], opened.data["delta"]["note"]) == ([5, 6, 7], "guided")


def test_everything_that_was_asked_is_there(tmp_path):
    folder = make_opened(tmp_path)
    (opened,) = opened_runs(report_of(tmp_path))
    data, members = opened.data, json.loads((folder / "metrics.json").read_text())["members"]
    assert data["sources"] == [PANEL, *members, "tokens", "together", "linear-mean"]
    assert data["networks"] == len(members)
    given = np.frombuffer(base64.b64decode(data["probabilities"]), "<u2").reshape(len(data["sources"]), 36, 3) / 10000
    said = np.frombuffer(base64.b64decode(data["said"]), np.uint8).reshape(len(data["sources"]), 36)
    table, others = RunFolder(folder).table(RunFolder(folder).predictions), RunFolder(folder).table(RunFolder(folder).baselines)
    rows = {name: place for place, name in enumerate(table["sequence_id"])}
    for at, name in enumerate(data["ids"]):
        networks = [table[member][rows[name]].to_numpy() for member in members]
        wanted = [np.mean(networks, axis=0), *networks, *(others[column][rows[name]].to_numpy() for column in others.columns[2:])]
        assert np.abs(given[:, at] - wanted).max() <= 0.5001e-4
        assert said[:, at].tolist() == np.argmax(wanted, -1).tolist()


def test_the_first_sequences_are_the_surest_of_every_cell(tmp_path):
    make_opened(tmp_path)
    ((_, said),) = chosen_runs(report_of(tmp_path))
    rows, cells = said.order(), said.labels * 3 + said.said[0]
    number = len(np.unique(cells))
    assert sorted(rows) == list(range(36))
    assert len(set(cells[rows[:number]])) == number > 3
    sure = said.probabilities[0].max(-1)
    for row in rows[:number]:
        assert sure[row] == sure[cells == cells[row]].max()


def test_a_budget_decides_how_many_have_maps(tmp_path, monkeypatch):
    make_opened(tmp_path)
    one_sequence = 2 * 4 * -(-LAYERS * LENGTH * (LENGTH + 1) // 2 // 3)
    of_classes = 2 * 4 * (3 * LAYERS * LENGTH * (LENGTH + 1) // 2 // 3)
    monkeypatch.setattr(content, "MAPS", 9 * one_sequence + of_classes)
    (opened,) = opened_runs(report_of(tmp_path))
    sizes = [len(opened.data[name]["codes"]) for name in ("delta", "difference")]
    sizes += [len(entry[pool]["codes"]) for entry in opened.data["sequences"].values() for pool in ("mean", "max")]
    assert content.MAPS - one_sequence < sum(sizes) <= content.MAPS
    assert list(opened.data["sequences"]) == [str(name) for name in opened.data["ids"][:9]]
    assert any("room for the attention of 9 of 36 stored sequences" in line for line in opened.text)


def test_what_the_store_lacks_is_not_put_down_to_the_page(tmp_path):
    folder = RunFolder(make_opened(tmp_path, attention=False))
    ids = folder.table(folder.predictions)["sequence_id"].to_numpy()
    llm = folder.result().settings["llm"]["name"]
    identity, maps = make_maps(ids[:30], llm=llm, fingerprint=llm)
    Store(tmp_path / "attention" / llm / "toy", identity).write(maps)
    (opened,) = opened_runs(report_of(tmp_path))
    assert len(opened.data["sequences"]) == 30
    assert any("the store lacks the attention of 6 of 36 listed sequences" in line for line in opened.text)
    assert not any("room" in line for line in opened.text)


def test_a_budget_decides_how_many_are_listed(tmp_path, monkeypatch):
    make_opened(tmp_path)
    monkeypatch.setattr(content, "LISTS", 10 * 4 * (12 * 3))
    (opened,) = opened_runs(report_of(tmp_path))
    assert 0 < len(opened.data["ids"]) < 36
    assert len(opened.data["probabilities"]) + len(opened.data["said"]) <= content.LISTS
    assert any(f"of 36 eval sequences {len(opened.data['ids'])} are listed" in line for line in opened.text)


def test_only_what_is_shown_is_read(tmp_path, monkeypatch):
    make_opened(tmp_path)
    monkeypatch.setattr(content, "MAPS", 5000)
    asked = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda store, ids, *more: asked.append(len(ids)) or read(store, ids, *more))
    (opened,) = opened_runs(report_of(tmp_path))
    assert asked == [12, 12, 12, len(opened.data["sequences"])]


def test_the_best_run_comes_first_then_one_with_maps_then_other_models(tmp_path):
    best = make_opened(tmp_path, llm="pythia-2.8b", taxonomy="rasy", attention=False, delta=False)
    located = make_opened(tmp_path, llm="pythia-2.8b", taxonomy="recite", attention=False)
    other = make_opened(tmp_path, llm="pythia-12b", taxonomy="rasy", attention=False, delta=False, seed=3)
    finish(Run(tmp_path, llm="pythia-70m"))  # it left no predictions
    for folder, score in ((best, 0.9), (located, 0.8), (other, 0.7)):
        content = json.loads((folder / "metrics.json").read_text())
        panel = content["panel"]
        rewrite(folder, panel={**panel, "min_f1": {**panel["min_f1"], "mean": score * 100}})
    assert [run.folder.path for run, _ in chosen_runs(report_of(tmp_path))] == [best, located, other]
    assert chosen.RUNS == 3


def text_of(root, text):
    """The page, and what the tokens of its sequences are as text and as numbers."""
    write_report(report_of(root, text))
    maps = store_of(root).read(store_of(root).ids(), ())
    tokenizer = tokenizer_of({"name": "toy", "path": None})
    return (root / "report/index.html").read_text(), [tokenizer.decode([token]) for token in np.unique(maps.decoded)], maps.decoded


def test_no_text_and_no_token_is_on_the_page_without_leave(tmp_path):
    make_opened(tmp_path, path="/somewhere/private")
    without, texts, decoded = text_of(tmp_path, text=False)
    assert "text=true shows it" in without
    data = without[without.index('{"runs"') :]
    data = data[: data.index("</script>")]
    for tokens in (decoded.tolist(), *decoded.tolist()):
        assert json.dumps(tokens) not in without
        assert json.dumps(tokens[:2])[1:-1] not in data
    for encoded in (decoded, decoded.astype("<i2"), decoded.astype(">i4"), decoded[0]):
        assert base64.b64encode(encoded.tobytes()).decode().rstrip("=")[:-1] not in without
    assert "tokens" not in json.loads(data)["runs"][0]["sequences"].popitem()[1]
    with_leave, _, _ = text_of(tmp_path, text=True)
    named = [json.dumps(text) for text in texts]
    assert len(named) > 20
    assert all(text in with_leave[with_leave.index('{"runs"') :] for text in named)
    assert not any(text in data for text in named)
    assert "text=true shows it" not in with_leave


def test_the_embedded_corpus_shows_its_text(tmp_path):
    data = one(tmp_path)
    tokens = [entry["tokens"] for entry in data["sequences"].values()]
    decoded = store_of(tmp_path).read([int(name) for name in data["sequences"]], ()).decoded
    tokenizer = tokenizer_of({"name": "toy", "path": None})
    assert ["".join(texts) for texts in tokens] == [tokenizer.decode(row.tolist()) for row in decoded]


def test_without_a_tokenizer_tokens_are_numbers_and_it_is_said(tmp_path):
    folder = make_opened(tmp_path)
    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    rewrite(folder, settings={**settings, "llm": {**settings["llm"], "path": str(tmp_path)}})
    (opened,) = opened_runs(report_of(tmp_path))
    assert len(opened.data["sequences"]) == 36
    assert "tokens" not in opened.data["sequences"].popitem()[1]
    assert any("has no tokenizer.json in" in line for line in opened.text)
    assert section(report_of(tmp_path)).parts[0].data["runs"][0]["hint"] == ""


def test_without_a_store_there_is_what_there_is(tmp_path):
    make_opened(tmp_path, attention=False)
    (opened,) = opened_runs(report_of(tmp_path))
    assert opened.data["sequences"] == {}
    assert opened.data["difference"] is None
    assert (opened.data["layers"], opened.data["length"]) == (LAYERS, LENGTH)
    assert any("its attention is not in" in line and "stages=[extract]" in line for line in opened.text)
    shown = section(report_of(tmp_path))
    assert "there is only what is said of it and Δ" in shown.parts[0].data["runs"][0]["hint"]


def test_the_attention_of_another_model_is_not_shown(tmp_path):
    folder = make_opened(tmp_path)
    rewrite(folder, origin={"corpus": "made up", "llm": "other"})
    (opened,) = opened_runs(report_of(tmp_path))
    assert opened.data["sequences"] == {}
    assert any("holds the attention of another model" in line for line in opened.text)


def test_maps_of_other_classes_are_left_out_and_told(tmp_path):
    folder = make_opened(tmp_path)
    result = json.loads((folder / "metrics.json").read_text())
    rewrite(folder, classes=["another", *result["classes"][1:]])
    (opened,) = opened_runs(report_of(tmp_path))
    assert opened.data["delta"] is None
    assert any("has maps of other classes than the run" in line for line in opened.text)


def test_damaged_files_are_left_out_and_told(tmp_path, capsys):
    folder = make_opened(tmp_path)
    RunFolder(folder).decision_maps("guided").write_bytes(b"no map")
    RunFolder(folder).baselines.write_bytes(b"no table")
    (opened,) = opened_runs(report_of(tmp_path))
    assert opened.data["delta"] is None
    assert opened.data["sources"][-1] not in ("together", "linear-mean")
    assert len(opened.data["sequences"]) == 36
    told = capsys.readouterr().err
    assert "localize-guided.h5 is damaged" in told
    assert "baselines.parquet is damaged" in told


def test_runs_without_predictions_are_a_sentence(tmp_path):
    make_runs(tmp_path)
    shown = section(report_of(tmp_path))
    assert shown.parts == []
    assert shown.text == [
        "No run of the ranking has left its predictions (predictions.parquet in its folder), so no sequence can be opened."
    ]


def test_the_page_is_sound(tmp_path):
    make_opened(tmp_path)
    write_report(report_of(tmp_path))
    page = check((tmp_path / "report/index.html").read_text())
    assert {"sequences", "viewer", "viewer-layer", "viewer-live"} <= set(page.ids)
    assert "Which sequences are taken for what" in words(page)


def test_the_tokenizer_of_a_folder_is_read_without_the_model(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((TOY / "tokenizer.json").read_bytes())
    assert tokenizer_of({"name": "x", "path": str(tmp_path)}).decode([400]) == tokenizer_of({"name": "toy", "path": None}).decode([400])
    assert tokenizer_of({"name": "x", "path": None, "random": {"model_type": "gpt_neox"}}).get_vocab_size() > 400


def test_the_word_is_true_or_false():
    assert (yes_or_no("true"), yes_or_no("false")) == (True, False)
    with pytest.raises(Exception, match="text=yes is neither true nor false"):
        yes_or_no("yes")
