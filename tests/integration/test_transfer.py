"""Networks of one run on the samples of another: exact on its own, without what is known, swept, refused, killed, and in Python."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import TWINS, kill_in_the_middle, memgrid_here, refusal
from runs_maker import composed

import memgrid
from memgrid.pipeline.face.view import RunData
from memgrid.pipeline.inputs import Inputs
from memgrid.pipeline.transfers import carry_over, opened, refuse_few
from memgrid.results.folder import RunFolder
from memgrid.store.store import Store
from memgrid.train.transfer.answers import answers
from memgrid.train.transfer.depth import weights

STAGES = "stages=[transfer]"


def folder_of(root, seed=0, taxonomy="rasy"):
    (path,) = root.glob(f"runs/toy/{taxonomy}/*seed{seed}-*/metrics.json")
    return RunFolder(path.parent)


def transferred(root, quick, source, *words, taxonomy="rasy"):
    told = memgrid_here(*quick, f"root={root}", STAGES, f"taxonomy={taxonomy}", f"transfer.from={source}", *words).stdout
    return folder_of(root, taxonomy=taxonomy).transfer_record(), told


def assert_own(record, result):
    """A run's own networks, probes and baselines, loaded or fitted again, score exactly what they scored when it was trained."""
    (one,) = record.transfers
    assert one.without == {}
    assert one.known == [0] * len(record.classes)
    assert one.samples == [result.samples.eval] * len(record.classes)
    assert one.panel.scores == one.panel.own == result.panel
    assert one.panel.ratio == (100 if result.panel.min_f1.mean else None)
    assert (one.difference.points, one.difference.chance) == (0, 1)
    assert one.pairs == result.pairs
    beside = {name: scores for name, scores in (result.probes | result.baselines).items() if scores is not None}
    assert {name: found.scores for name, found in one.classifiers.items() if name != "panel"} == beside
    assert {name: found.own for name, found in one.classifiers.items() if name != "panel"} == beside


def test_from_itself_is_the_runs_own_score(done_copy, quick):
    folder = folder_of(done_copy)
    record, told = transferred(done_copy, quick, folder.path)
    assert_own(record, folder.result())
    assert f"transfer from toy · rasy · ρ=0.5 (both) · seed 0: {folder.path}" in told
    assert "+0.0 points, " in told
    # Once it is done it is read, and done again when something changed.
    stamp = folder.transfers.stat().st_mtime_ns
    again = transferred(done_copy, quick, folder.path.relative_to(done_copy))[1]
    assert folder.transfers.stat().st_mtime_ns == stamp
    assert "transfer from" not in again
    assert "+0.0 points, " in again


def test_from_itself_also_where_the_training_is_another_runs(twins_copy, quick):
    folder = folder_of(twins_copy, taxonomy="recollect")
    record, _ = transferred(twins_copy, (*quick, *TWINS), folder.path, taxonomy="recollect")
    assert folder.result().same_as is not None
    assert_own(record, folder.result())


@pytest.fixture(scope="module")
def two(done, quick, tmp_path_factory):
    """A root with two seeds, of which the first was there, and the transfers between them: one sweep."""
    root = shutil.copytree(done, tmp_path_factory.mktemp("two") / "root", ignore=shutil.ignore_patterns(".lock"), symlinks=True)
    words = ("-m", "seed=0,1", "stages=[label,extract,train],[transfer]", "transfer.from='*/rasy/*'")
    told = memgrid_here(*quick, f"root={root}", *words).stdout
    (root / "told").write_text(told)
    return root


def test_in_a_sweep_transfers_begin_when_all_trainings_have_ended(two):
    told = (two / "told").read_text()
    assert told.count("transfer from toy · rasy") == 2
    assert told.rindex("train    ") < told.index("transfer from")
    for seed in (0, 1):
        (one,) = folder_of(two, seed).transfer_record().transfers
        assert one.source.seed == 1 - seed
        assert one.source.folder == folder_of(two, 1 - seed).path.relative_to(two / "runs").as_posix()


def test_what_a_source_was_trained_on_is_left_out(two, mini):
    tokens = dict(pl.read_parquet(mini / "sequences.parquet").select("sequence_id", "tokens").iter_rows())
    for seed in (0, 1):
        here, source = folder_of(two, seed), folder_of(two, 1 - seed)
        train = source.table(source.samples).filter(pl.col("side") == "train")["sequence_id"].to_list()
        evaluated = here.table(here.samples).filter(pl.col("side") == "eval")
        runs = {tuple(tokens[number][at : at + 32]) for number in train for at in range(33)}
        shared = [any(tuple(tokens[number][at : at + 32]) in runs for at in range(33)) for number in evaluated["sequence_id"]]
        (one,) = here.transfer_record().transfers
        assert np.add(one.samples, one.known).tolist() == [evaluated.height // 3] * 3
        assert sum(one.known) >= sum(shared) > 0  # and repetitions of one pattern
        assert one.panel.own.accuracy != here.result().panel.accuracy  # on fewer samples


def test_it_is_seen_in_python_and_on_the_page(two):
    run = memgrid.open_run(folder_of(two).path)
    assert run.has("transfer")
    assert run.transfers["classifier"].to_list()[:2] == ["panel", "linear-mean"]
    assert run.transfers["p"].null_count() == run.transfers.height - 1
    assert any(line.startswith("What the networks of toy · rasy") for line in run.findings())
    memgrid_here(f"root={two}", f"out={two / 'report'}", module="report")
    table = pl.read_csv(two / "report" / "transfers.csv")
    assert table["tried_on"].to_list() == ["toy · seed 0", "toy · seed 1"]
    assert table["trained_on"].to_list() == ["toy · seed 1", "toy · seed 0"]
    assert "Does it transfer?" in (two / "report" / "index.html").read_text()


def test_a_model_with_fewer_layers_is_resampled(done_copy, tmp_path):
    data = RunData(folder_of(done_copy), Inputs())
    source = opened(data, data.settings, ("train", "eval"))
    ids = source.side("eval")["sequence_id"].to_numpy()
    maps = source.store.read(ids, measured=True)
    mixed = weights(6, 4)
    pools = {name: (packed.astype(np.float32) @ mixed.T).astype(np.float16) for name, packed in maps.pools.items()}
    store = Store(tmp_path / "four", replace(source.store.identity, layers=4))
    store.write(replace(maps, pools=pools))
    plain, few = answers(source, source), answers(source, replace(source, store=store))
    assert few["panel"].shape == plain["panel"].shape
    assert not np.array_equal(few["panel"], plain["panel"])
    np.testing.assert_allclose(few["panel"].sum(-1), 1, rtol=1e-5)
    for name, said in plain.items():  # what needs no attention is what it was
        if name not in ("panel", "linear-mean"):
            assert np.array_equal(few[name], said), name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["transfer.from=nowhere"], "transfer.from=nowhere is no folder of a run"),
        (["transfer.from=*/prashanth/*"], "transfer.from=*/prashanth/* matches no other finished run with the classes"),
        (["transfer.from=[]"], "transfer.from=[] names no run whose networks could be tried"),
    ],
)
def test_what_cannot_be_tried_is_told_before_any_work(done_copy, quick, words, sentence):
    given = (*quick, f"root={done_copy}", "seed=5", "stages=[label,extract,train,transfer]")
    process = memgrid_here(*given, *words, check=False)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"memgrid: {sentence}")
    assert not list(done_copy.glob("runs/toy/rasy/*seed5*/samples.parquet"))


def test_other_classes_missing_attention_and_missing_networks_are_one_sentence_each(twins_copy, quick):
    given = (*quick, *TWINS, f"root={twins_copy}", STAGES, "taxonomy=recite")
    own, other = (folder_of(twins_copy, taxonomy=name) for name in ("recite", "recollect"))
    process = memgrid_here(*given, f"transfer.from={other.path}", check=False)
    assert (
        f"transfer.from={other.path} has the classes Non-Memo, Recollect, Others, and this run Non-Memo, Recite, Others" in process.stderr
    )
    own.checkpoint.rename(own.checkpoint.with_suffix(".away"))
    process = memgrid_here(*given, f"transfer.from={own.path}", check=False)
    assert "last.ckpt is missing, and with it the trained networks" in process.stderr
    shutil.rmtree(twins_copy / "attention")
    process = memgrid_here(*given, f"transfer.from={own.path}", check=False)
    assert "has no attention" in process.stderr
    assert not own.transfers.exists()


def test_too_few_that_are_not_known_are_refused_and_a_pattern_passes_them_over(two, quick):
    folder, run = folder_of(two), composed((*quick, f"root={two}"))
    assert refusal(refuse_few, [20, 4, 9], run, "toy · seed 1") == (
        "transfer.from: only 4 eval samples of class 'Guess' are left that toy · seed 1 was not trained on, fewer than "
        "select.min_eval_per_class=5: name a run with the same seed, which keeps the same sequences apart"
    )
    many = replace(run, select=replace(run.select, min_eval_per_class=20), transfer={"from": "toy/rasy/*"})
    before = folder.transfers.read_bytes()
    assert refusal(carry_over, many, folder, Inputs(), print).startswith(
        "of the runs that transfer.from=toy/rasy/* names none could be tried: transfer.from: only "
    )
    named = replace(many, transfer={"from": str(folder_of(two, 1).path)})
    assert refusal(carry_over, named, folder, Inputs(), print).startswith("transfer.from: only ")
    assert folder.transfers.read_bytes() == before


def test_a_killed_transfer_leaves_nothing_and_comes_out_the_same(done_copy, quick, tmp_path):
    folder = folder_of(done_copy)
    given = (*quick, f"root={done_copy}", STAGES, f"transfer.from={folder.path}")
    assert kill_in_the_middle(tmp_path / "hold", *given) == -signal.SIGKILL
    assert not folder.transfers.exists()
    memgrid_here(*given)
    first = folder.transfers.read_bytes()
    assert_own(folder.transfer_record(), folder.result())
    memgrid_here(*given, "force=true")
    assert folder.transfers.read_bytes() == first
    # A record that was damaged is named, set aside and made anew.
    folder.transfers.write_bytes(first.replace(b'"k', b'"x'))
    process = memgrid_here(*given)
    assert "transfer.json" in process.stderr
    assert folder.transfers.read_bytes() == first


def test_what_the_record_says_of_its_own(two):
    plain = json.loads(folder_of(two).transfers.read_text())
    assert plain["settings"] == {"from": "*/rasy/*"}
    assert plain["classes"] == ["Non-Memo", "Guess", "Recall"]
    assert plain["layers"] == 6
