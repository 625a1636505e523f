"""Localization of finished runs: which networks, which samples, what is computed again, and what is refused."""

import io
import shutil

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from conftest import LEAST, TWINS, memgrid_here, refusal
from rich.console import Console
from settings_maker import composed

from memgrid.io.checkpoints import save
from memgrid.launch.workspace import Workspace
from memgrid.localize import localize as room
from memgrid.localize.attribution import METHODS
from memgrid.localize.localize import batches, eval_samples, localize, one_sample
from memgrid.localize.maps import made_from, read_decision_maps
from memgrid.localize.randomization import randomization_test
from memgrid.pipeline.context import RunContext
from memgrid.results.folder import RunFolder
from memgrid.train.panel import load_panel


def context_of(*overrides):
    """A run's configuration, corpus, store and samples, as the stages have them."""
    return RunContext(composed(*overrides), Workspace(Console(file=io.StringIO())))


def parts(context):
    return context.run, context.corpus, context.store, context.samples, context.folder


@pytest.fixture(scope="module")
def shared(done, quick):
    """The finished run, to read from only."""
    return context_of(*quick, f"root={done}")


@pytest.fixture
def own(done_copy, quick):
    """The finished run in a folder of the test's own."""
    return context_of(*quick, f"root={done_copy}")


@pytest.fixture(scope="module")
def panel(shared):
    return load_panel(shared.run, shared.store, shared.folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_localized(method, own):
    path = localize(*parts(own), method, 6)
    assert path == own.folder.path / f"localize-{method}.h5"
    found = read_decision_maps(path, with_members=True)
    result = own.folder.result()
    assert (found.method, list(found.classes), found.k) == (method, result.classes, own.run.corpus.k)
    assert (found.llm, found.corpus, found.training) == ("toy", "mini", result.partition)
    assert list(found.members) == result.members
    length, layers = own.store.identity.length, own.store.identity.layers
    assert found.values.shape == (3, layers, length, length)
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, np.mean(list(found.members.values()), 0), rtol=1e-6)
    assert found.samples == (6, 6, 6)
    labels = dict(own.samples.filter(pl.col("side") == "eval").select("sequence_id", "label").iter_rows())
    assert [{labels[one] for one in ids.tolist()} for ids in found.ids] == [{0}, {1}, {2}]
    above = np.triu(np.ones((length, length), bool), 1)
    assert (found.values[..., above] == 0).all()
    assert found.values.min() == 0
    assert ((found.values.max((1, 2, 3)) > 0) & (found.values.max((1, 2, 3)) <= 1)).all()
    assert (found.values[0] != found.values[2]).any()


def test_the_networks_are_the_ones_that_made_the_predictions(shared, panel):
    rows = pl.read_parquet(shared.folder.path / "predictions.parquet")
    (maps,) = batches(panel, shared.corpus, shared.store, rows["sequence_id"].to_numpy(), 1000)
    with torch.no_grad():
        for name, logits in panel.panel.logits(maps).items():
            expected = np.array(rows[name].to_list())
            np.testing.assert_allclose(logits.softmax(-1)[:, list(panel.logits)], expected, atol=1e-4)


def test_the_mean_of_single_sequences_is_the_classs_map(own, panel):
    found = read_decision_maps(localize(*parts(own), "guided", 3))
    for label in range(3):
        single = [one_sample(panel, own.corpus, own.store, int(one), label) for one in found.ids[label]]
        np.testing.assert_allclose(np.mean([one.values for one in single], 0), found.values[label], rtol=1e-3, atol=1e-7)
    last = single[-1]
    assert last.title == found.classes[2]
    assert last.decoded.tolist() == own.store.read([last.sequence_id], ()).decoded[0].tolist()
    assert last.attention.shape == last.values.shape
    assert (last.attention[:, 0, 0] == 1).all()
    assert (last.attention[:, 0, 1] == 0).all()


def test_the_size_of_batches_does_not_matter(own):
    found = read_decision_maps(localize(*parts(own), "gradient", 7, 3)).values
    (own.folder.path / "localize-gradient.h5").unlink()
    np.testing.assert_allclose(read_decision_maps(localize(*parts(own), "gradient", 7, 100)).values, found, rtol=1e-3, atol=1e-7)


def test_fewer_samples_are_a_part_of_more_and_those_not_the_lowest_ids(shared):
    few, every = (eval_samples(shared.corpus, shared.samples, 3, number, 0) for number in (5, None))
    for some, ids in zip(few, every, strict=True):
        assert some.tolist() == ids[:5].tolist()
        assert sorted(some.tolist()) != sorted(ids.tolist())[:5]
    shuffled = shared.samples.sample(fraction=1, shuffle=True, seed=1)
    again = eval_samples(shared.corpus, shuffled, 3, None, 0)
    assert all(np.array_equal(one, other) for one, other in zip(again, every, strict=True))


def test_nothing_is_computed_twice_and_stale_files_are_made_anew(own, monkeypatch):
    computed = []
    usual = room.panel_means
    monkeypatch.setattr(room, "panel_means", lambda *given: computed.append(given[2]) or usual(*given))

    def times(*given):
        computed.clear()
        path = localize(*parts(own), *given)
        return len(computed), path.read_bytes()

    assert times("gradient", 2)[0] == 3
    assert times("gradient", 2)[0] == 0
    assert times("gradient", 2, 5)[0] == 0
    made, whole = times("gradient", 3)
    assert made == 3
    assert times("guided", 3)[0] == 3
    assert times("gradient", 3)[0] == 0
    path = own.folder.path / "localize-gradient.h5"
    # Damaged anywhere, or of another version.
    for damage in (b"", whole[:-500], whole[:900] + bytes([whole[900] ^ 1]) + whole[901:], bytes(64) + whole[64:]):
        path.write_bytes(damage)
        assert times("gradient", 3)[0] == 3
    monkeypatch.setattr("memgrid.localize.maps.FORMAT_VERSION", 99)
    times("gradient", 3)
    monkeypatch.undo()
    monkeypatch.setattr(room, "panel_means", lambda *given: computed.append(given[2]) or usual(*given))
    assert "format version 99" in refusal(read_decision_maps, path)
    assert times("gradient", 3)[0] == 3
    # Other networks under the same name.
    checkpoint = own.folder.path / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    next(iter(content["state_dict"].values())).mul_(1.5)
    save(content, checkpoint)
    assert times("gradient", 3)[0] == 3


def test_a_file_is_whole_or_absent(own, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    localize(*parts(own), "gradient", 2)
    path = own.folder.path / "localize-gradient.h5"
    before = path.read_bytes()
    monkeypatch.setattr("memgrid.io.files.os.fsync", fail)
    assert "No space left" in refusal(localize, *parts(own), "gradient", 3)
    assert path.read_bytes() == before
    path.unlink()
    refusal(localize, *parts(own), "gradient", 3)
    assert made_from(path) is None
    assert not [one for one in own.folder.path.iterdir() if "partial" in one.name or one.suffix == ".h5"]


def test_other_programs_can_read_the_file(own):
    path = localize(*parts(own), "gradient", 2)
    with h5py.File(path) as file:
        assert file["delta"].shape[0] == 3
        assert list(file.attrs["classes"]) == list(read_decision_maps(path).classes)
        assert file["ids/0"][:].tolist() == read_decision_maps(path).ids[0].tolist()


def test_an_unknown_method_is_refused_before_anything_is_read(shared):
    sentence = refusal(localize, *parts(shared)[:-1], RunFolder(shared.folder.path / "nowhere"), "lime")
    assert all(method in sentence for method in METHODS)


def test_runs_without_networks_are_refused(own, tmp_path):
    given = parts(own)
    assert "no finished run" in refusal(localize, *given[:-1], RunFolder(tmp_path))
    checkpoint = own.folder.path / "checkpoints" / "last.ckpt"
    kept = checkpoint.read_bytes()
    checkpoint.write_bytes(kept[:1000])
    assert "is damaged (its content does not match its digest)" in refusal(localize, *given)
    content = torch.load(io.BytesIO(kept), weights_only=True)
    save({**content, "history": content["history"][:1]}, checkpoint)
    assert "has seen 1 of 3 epochs" in refusal(localize, *given)
    save({**content, "state_dict": {}}, checkpoint)
    assert "other networks" in refusal(localize, *given)
    checkpoint.unlink()
    assert "force=true" in refusal(localize, *given)
    assert not list(own.folder.path.glob("*.h5"))


def test_an_adopted_run_reads_the_networks_of_its_twin_under_its_own_class_names(twins_copy, quick):
    shared = (*quick, *TWINS, f"root={twins_copy}")
    contexts = [context_of(*shared, f"taxonomy={name}") for name in ("recite", "recollect")]
    first, second = contexts
    assert second.folder.result().same_as
    assert not (second.folder.path / "checkpoints").exists()
    a, b = (read_decision_maps(localize(*parts(context), "guided", 4)) for context in contexts)
    assert a.classes == ("Non-Memo", "Recite", "Others")
    assert b.classes == ("Non-Memo", "Recollect", "Others")
    turned = [0, 2, 1]  # Recite is the other's Others
    np.testing.assert_array_equal(b.values, a.values[turned])
    assert [ids.tolist() for ids in b.ids] == [a.ids[label].tolist() for label in turned]
    assert a.weights == b.weights
    # The logits stand for the classes that the adopted predictions say.
    trained = load_panel(second.run, second.store, second.folder)
    rows = pl.read_parquet(second.folder.path / "predictions.parquet")
    (maps,) = batches(trained, second.corpus, second.store, rows["sequence_id"].to_numpy(), 1000)
    for name, logits in trained.panel.logits(maps).items():
        np.testing.assert_allclose(logits.softmax(-1)[:, list(trained.logits)], np.array(rows[name].to_list()), atol=1e-4)
    # As stages of the adopted run.
    shown = memgrid_here(*shared, *LEAST, "taxonomy=recollect", "stages=[localize,intervene]").stdout
    assert "Non-Memo in layer" in shown
    assert "intervene Recollect (" in shown or "intervene Others (" in shown
    assert {"localize-guided.json", "intervene.json"} <= {path.name for path in second.folder.path.iterdir()}
    shutil.rmtree(first.folder.path)
    assert "force=true" in refusal(load_panel, second.run, second.store, second.folder)


def test_another_corpus_under_the_same_ids_is_refused(own):
    run, corpus, store, samples, folder = parts(own)
    other = type(corpus)(corpus.name, corpus.sequence_id, corpus.tokens[:, ::-1].copy(), corpus.k, None)
    assert "another text" in refusal(localize, run, other, store, samples, folder, "gradient", 2)


def test_randomised_networks_give_other_maps(shared, panel):
    ids = eval_samples(shared.corpus, shared.samples, 3, 6, 0)[1]
    found = randomization_test(panel, shared.corpus, shared.store, ids, 1, "gradient")
    assert found["decisiveness"][0] == pytest.approx(1)
    assert found["decisiveness"][4] < 0.9
    assert found == randomization_test(panel, shared.corpus, shared.store, ids, 1, "gradient")


def test_a_class_without_a_decision_is_all_zero(own, monkeypatch):
    """A dead network: no weight of the last layer is left."""
    checkpoint = own.folder.path / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    for name, weights in content["state_dict"].items():
        if name.endswith("body.12.weight"):
            weights.zero_()
    save(content, checkpoint)
    for method in ("guided", "gradcam"):
        assert (read_decision_maps(localize(*parts(own), method, 2)).values == 0).all()
