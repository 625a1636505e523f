"""The face on finished runs: what `memgrid.open_run` gives is what the files hold, and what is missing is told with its command."""

import json
import re
import shlex
import shutil
from pathlib import Path

import forks
import numpy as np
import polars as pl
import pytest
from conftest import LEAST, memgrid_here, refusal

import memgrid
from memgrid.io.digests import write_json
from memgrid.localize.maps import read_decision_maps
from memgrid.pipeline.face.view import RunData
from memgrid.results.folder import RunFolder, folders_below

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


PNG, PDF = b"\x89PNG", b"%PDF"


OF_A_RUN = ("confusion", "attention", "mean-attention", "decision-maps", "layer-shares", "decision-map", "randomization-test")


OF_AN_INTERVENTION = ("doses", "dose-layers", "where", "heads")


@pytest.fixture(scope="module")
def run(caused):
    (folder,) = folders_below(caused)
    return memgrid.open_run(folder)


@pytest.fixture(scope="module")
def plain(done):
    (folder,) = folders_below(done)
    return memgrid.open_run(folder)


def command_in(sentence):
    """The words of the command that a sentence asks for."""
    words = shlex.split(re.search(r"`(python -m memgrid\.run[^`]*)`", sentence)[1])
    return words[3:]


def test_results_are_read_without_torch(caused, run):
    code = f"""import sys, memgrid
runs = memgrid.runs({str(caused)!r})
run = runs.best()
run.attention(int(run.predictions["sequence_id"][0])); run.decision_maps(); run.table(); run.findings(); runs.ranking()
run.draw("decision-maps"); runs.draw("ranking")
assert not {{"torch", "transformers"}} & set(sys.modules)"""
    done = forks.run(["-c", code], light=True)
    assert done.returncode == 0, done.stderr


def test_a_run_is_opened_by_its_folder_or_by_its_name_below_a_root(run, caused, tmp_path):
    folder = run.folder.path
    for name in (folder.name, f"{folder.parent.name}/{folder.name}", "/".join(folder.parts[-3:])):
        assert memgrid.open_run(name, caused).folder.path == folder
    assert run.root == caused
    assert run.settings.root == str(caused)
    assert RunFolder.of(run.settings).path == folder
    assert f"min-F1 {run.metrics.panel.min_f1.mean:.1f}" in repr(run)
    assert "python -m memgrid.run" in refusal(memgrid.open_run, tmp_path)
    assert str(tmp_path) in refusal(memgrid.open_run, tmp_path)
    assert f"python -m memgrid.run root={caused}" in refusal(memgrid.open_run, "nobody", caused)


def test_a_run_without_a_result_names_the_command_that_finishes_it(done_copy):
    (folder,) = folders_below(done_copy)
    (folder / "metrics.json").unlink()
    sentence = refusal(memgrid.open_run, folder)
    assert str(folder) in sentence
    assert {f"root={done_copy}", "cnn=single", "select.train_per_class=32"} <= set(command_in(sentence))
    (folder / "metrics.json").write_text("{")
    assert "is damaged" in refusal(memgrid.open_run, folder)


def test_settings_and_metrics_are_typed(run):
    assert run.settings.taxonomy.name == run.metrics.settings["taxonomy"]["name"] == "rasy"
    assert run.settings.corpus.k == 32
    assert run.classes == list(run.settings.taxonomy.classes)
    assert run.samples.columns == ["sequence_id", "label", "title", "side", "group"]


def test_predictions_are_the_mean_over_the_panel_and_agree_with_the_metrics(run):
    table, classes = run.predictions, run.classes
    assert table.columns == ["sequence_id", "label", *classes, "predicted", "correct"]
    assert set(table["sequence_id"]) == set(run.samples.filter(side="eval")["sequence_id"])
    probabilities = table.select(classes).to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert table["predicted"].to_list() == [classes[at] for at in probabilities.argmax(1)]
    assert table["correct"].to_list() == (table["label"] == table["predicted"]).to_list()
    labels = table.join(run.samples, on="sequence_id", maintain_order="left")
    assert (labels["label"] == labels["title"]).all()
    counts = np.zeros((len(classes), len(classes)), int)
    for network in run.metrics.members:
        for row in run.predictions_of(network).iter_rows(named=True):
            counts[classes.index(row["label"]), classes.index(row["predicted"])] += 1
    assert counts.tolist() == run.metrics.confusion
    assert run.confusion().drop("true").to_numpy().tolist() == run.metrics.confusion
    every = np.mean([run.predictions_of(network).select(classes).to_numpy() for network in run.metrics.members], axis=0)
    np.testing.assert_allclose(probabilities, every, atol=1e-6)


def test_predictions_of_baselines_give_their_scores(run):
    for name in ("tokens", "together"):
        accuracy = 100 * run.predictions_of(name)["correct"].mean()
        assert accuracy == pytest.approx(run.metrics.baselines[name].accuracy.mean, abs=1e-6)
    assert "use k8-f16-mean, tokens" in refusal(run.predictions_of, "nobody")


def test_the_table_is_the_printed_one(run, capsys):
    table = run.table()
    assert table["class"].to_list() == [*run.classes, "min-F1"]
    assert table["f1"][-1] == run.metrics.panel.min_f1.mean
    assert table["low"].to_list() == [*(entry.low for entry in run.metrics.panel.f1), run.metrics.panel.min_f1.low]
    assert table["shuffled"][0] == run.metrics.control.f1[0].mean
    assert table["confidence"][1] == run.metrics.confidence.f1[1].mean
    run.print()
    printed = capsys.readouterr().out
    assert f"{table['f1'][-1]:.1f}" in printed
    assert all(title in printed for title in run.classes)
    assert run.history.height == 3 * len(run.metrics.members)
    assert set(run.trials["class"]) < set(run.classes)
    assert [sentence for sentence in run.findings() if sentence.startswith("Most of Δ")]


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_attention_is_the_stored_triangle(run, pool):
    ids = run.samples["sequence_id"].head(3)
    packed = run.store.read(ids, (pool,)).pools[pool]
    maps = run.attention_of(ids, pool)
    layers, length = packed.shape[2], run.settings.corpus.length
    assert (maps.dtype, maps.shape) == (np.float32, (3, layers, length, length))
    rows, columns = np.tril_indices(length)
    assert (maps[1, 2, rows, columns] == packed[1, :, 2]).all()
    assert not maps[:, :, ~np.tril(np.ones((length, length), bool))].any()
    assert (run.attention(ids[2], pool) == maps[2]).all()
    if pool == "mean":
        np.testing.assert_allclose(maps.sum(-1), 1, atol=0.02)


def test_text_is_the_corpus_and_the_tokens_make_it(run, toy_lm):
    sequence_id = run.samples["sequence_id"][0]
    text = run.text(sequence_id)
    row = np.flatnonzero(run.corpus.sequence_id == sequence_id)
    assert [text.prefix + text.suffix] == toy_lm.detokenize(run.corpus.tokens[row])
    assert "".join(text.tokens[: run.corpus.k]) == text.prefix
    assert str(text) == f"{text.prefix}⟶{text.suffix}"
    assert "sequence -5" in refusal(run.text, -5)
    assert "sequence -5" in refusal(run.attention, -5)


def test_decision_maps_are_the_file(run):
    stored, maps = read_decision_maps(run.folder.decision_maps("guided")), run.decision_maps()
    assert (maps.maps == stored.values).all()
    assert maps.maps.dtype == np.float32
    assert (maps.classes, maps.k, maps.method, maps.samples) == (stored.classes, 32, "guided", stored.samples)
    assert (maps["Guess"] == stored.values[1]).all()
    assert run.methods == ["guided"]
    assert (run.has("localize"), run.has("intervene")) == (True, True)


def test_what_a_run_lacks_is_told_with_its_own_command(plain, done):
    assert (plain.has("localize"), plain.has("intervene")) == (False, False)
    for look, stages in ((plain.decision_maps, "[localize]"), (lambda: plain.trials, "[localize,intervene]")):
        words = command_in(refusal(look))
        assert {f"root={done}", "corpus=tables", "corpus.name=mini", "cnn=single", f"stages={stages}"} <= set(words)
    assert "localize.method=gradcam" in refusal(plain.decision_maps, "gradcam")
    for name in (*OF_A_RUN[3:], *OF_AN_INTERVENTION):
        drawn = plain.draw(name)
        assert drawn.missing == repr(drawn)
        assert command_in(drawn.missing)[-1].startswith("stages=[localize")
        assert refusal(drawn.save, "never.png") == drawn.missing


@pytest.mark.slow
def test_the_command_does_it_to_the_same_run(done_copy):
    (folder,) = folders_below(done_copy)
    sentence = refusal(memgrid.open_run(folder).decision_maps)
    memgrid_here(*command_in(sentence), *LEAST[:2], "wandb=off", "trainer.threads=1")
    assert folders_below(done_copy) == [folder]
    assert memgrid.open_run(folder).decision_maps().maps.max() <= 1


def test_damage_and_foreign_files_are_sentences(done_copy, monkeypatch):
    (folder,) = folders_below(done_copy)

    def fresh():
        return memgrid.open_run(folder)

    (folder / "baselines.parquet").unlink()  # as older versions left it
    assert fresh().predictions.height
    assert "has no predictions of baselines" in refusal(fresh().predictions_of, "tokens")
    (folder / "epochs.parquet").write_bytes(b"nothing")
    assert "force=true" in refusal(lambda: fresh().history)
    metrics = folder / "metrics.json"
    whole = metrics.read_text()
    origin = fresh().metrics.origin
    write_json(json.loads(whole.replace(origin.llm, "0" * 16).replace(origin.corpus, "1" * 16)), metrics)
    sequence_id = fresh().samples["sequence_id"][0]
    assert "another model" in refusal(fresh().attention, sequence_id)
    assert "is not as it was" in refusal(fresh().text, sequence_id)
    metrics.write_text(whole)
    shutil.rmtree(done_copy / "attention")
    assert command_in(refusal(fresh().attention, sequence_id))[-1] == "stages=[extract]"
    (folder / "config.yaml").unlink()
    assert "config.yaml is missing" in refusal(lambda: fresh().settings)
    assert fresh().table().height


def test_runs_are_a_sequence_with_the_tables_of_the_report(caused, run):
    runs = memgrid.runs(caused)
    assert len(runs) == 1
    assert [one.folder for one in runs] == [run.folder]
    assert runs[0].folder == runs.best().folder == runs.best("localize", "intervene").folder
    assert isinstance(runs[:1], memgrid.Runs)
    assert runs.ranking()["min_f1"][0] == run.metrics.panel.min_f1.mean
    ours = runs.confusions().filter(sum="ours")
    assert ours["count"].to_list() == np.array(run.metrics.confusion).ravel().tolist()
    assert runs.members()["min_f1"].to_list() == run.metrics.members_min_f1
    assert runs.controls()["shuffled_min_f1"][0] == run.metrics.control.min_f1.mean
    assert runs.protocols()["paper_min_f1"][0] == pytest.approx(run.metrics.paper_protocol.min_f1)
    assert runs.states()["state"].to_list() == ["done"]
    assert (runs.rho().height, runs.learning().height, runs.noise()) == (0, 0, None)
    assert runs.added().height == 3


def test_runs_that_cannot_be_read_are_named(caused_copy, capsys):
    (folder,) = folders_below(caused_copy)
    broken = folder.with_name("broken")
    broken.mkdir()
    (broken / "metrics.json").write_text("{}")
    assert len(memgrid.runs(caused_copy)) == 1
    assert f"{broken} is left out" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*OF_A_RUN, *OF_AN_INTERVENTION])
def test_a_run_draws(run, name, tmp_path):
    drawn = run.draw(name)
    assert drawn.missing is None
    assert all(page.startswith(PNG) for page in drawn.png)
    assert all(page.startswith(PDF) for page in drawn.pdf)
    (png,) = drawn.save(tmp_path / "new" / "figure.png")
    (pdf,) = drawn.save(tmp_path / "figure.pdf")
    assert (png.read_bytes(), pdf.read_bytes()) == (drawn.png[0], drawn.pdf[0])
    assert "let it end in .png or .pdf" in refusal(drawn.save, tmp_path / "figure.jpg")


def test_runs_draw_or_say_why_not(caused, done):
    runs = memgrid.runs(caused)
    for name in ("ranking", "panel", "protocols", "controls", "added", "confusions"):
        assert runs.draw(name).png, name
    for name, word in (("rho", "rho=0.3,0.5,0.7"), ("learning", "select.train_per_class=100,200,400")):
        words = command_in(runs.draw(name).missing)
        assert {"-m", word, "cnn=single"} <= set(words)
        assert len({one.split("=")[0] for one in words}) == len(words)
    assert runs.draw("extraction").png  # every pass that labels tells it
    assert {"-m", "taxonomy=extractable,recite", "stages=[label]"} <= set(command_in(memgrid.runs(done).draw("copies").missing))
    assert {"-m", "taxonomy=prashanth,rasy", "stages=[label]"} <= set(command_in(memgrid.runs(done).draw("flow").missing))
    assert runs.draw("flow").png  # the intervention has made the labels
    assert runs.draw("flow", taxonomies=("rasy", "guess")).png != runs.draw("flow").png
    assert runs.draw("flow", taxonomies=("prashanth@delta=5", "rasy")).png != runs.draw("flow").png
    assert "would change nothing" in runs.draw("flow", taxonomies=("rasy@delta=5", "rasy")).missing


def test_unknown_drawings_and_classes_list_those_that_there_are(run, caused):
    assert "use confusion, attention" in refusal(run.draw, "teaser")
    assert "use ranking, rho" in refusal(memgrid.runs(caused).draw, "teaser")
    assert "use Non-Memo, Guess, Recall" in run.draw("decision-map", title="Recite").missing
    assert run.draw("decision-map", title="Recall").png != run.draw("decision-map", title="Guess").png


def test_a_class_called_like_a_column_keeps_its_probabilities(run, tmp_path):
    shutil.copytree(run.folder.path, tmp_path / "run", ignore=shutil.ignore_patterns(".lock", "wandb"))
    metrics = tmp_path / "run" / "metrics.json"
    write_json(json.loads(metrics.read_text().replace('"Guess"', '"label"')), metrics)
    renamed = RunData(RunFolder(tmp_path / "run")).predictions
    assert (renamed["P(label)"] == run.predictions["Guess"]).all()
    assert set(renamed["label"]) == {"Non-Memo", "label", "Recall"}


def test_the_examples_of_the_page_run_as_they_stand(caused, tmp_path, monkeypatch, capsys):
    (tmp_path / "memgrid-runs").symlink_to(caused)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) > 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert Path("confusion.pdf").read_bytes().startswith(PDF)
    assert "[1 0]" in capsys.readouterr().out
    assert isinstance(names["features"], pl.DataFrame)


def test_the_page_names_every_drawing_and_every_name(run, caused):
    page = PAGE.read_text()
    for drawer in (run, memgrid.runs(caused)):
        for name in refusal(drawer.draw, "?").split("use ")[1].split(", "):
            assert f"`{name}`" in page
    for name in set(memgrid.__all__) - {"Drawing", "Run", "Runs"}:
        assert f"memgrid.{name}" in page
