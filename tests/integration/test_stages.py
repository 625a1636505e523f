"""Corpora of every kind through the stages, and what they refuse."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import QUICK, memgrid_here
from semantic_filters_maker import make_semantic_filters

from memgrid.results.states import states


@pytest.fixture(scope="module")
def labelled(done, mini):
    """Embedded sequences with their labels, and the model's."""
    folder = done / "labels" / "toy" / "mini"
    made = pl.read_parquet(mini / "sequences.parquet")
    for name in ("memorized", "templates"):
        made = made.join(pl.read_parquet(folder / f"{name}.parquet"), on="sequence_id")
    return made


@pytest.fixture
def filters(labelled, tmp_path):
    """Embedded sequences in the paper's format; ten are called memorized that are not."""
    some = pl.concat(
        [
            labelled.filter("memorized", "is_repeating").head(30),
            labelled.filter(pl.col("memorized"), ~pl.col("is_repeating")).head(90),
            labelled.filter(~pl.col("memorized")).head(70),
        ]
    )
    rows = some.select(
        pl.col("sequence_id").cast(pl.Int64),
        pl.col("tokens").cast(pl.List(pl.Int64)),
        pl.col("memorized").cast(pl.Float64).alias("memorization_score"),
        pl.lit(9, pl.Int64).alias("sequence_duplicates"),
        "is_repeating",
        "is_incrementing",
    )
    folder = tmp_path / "filters"
    folder.mkdir()
    wrong = rows.filter(pl.col("memorization_score") < 1).tail(10).with_columns(memorization_score=1.0)
    rows.filter(pl.col("memorization_score") == 1).vstack(wrong).write_parquet(folder / "memories_toy.parquet")
    rows.filter(pl.col("memorization_score") < 1).head(60).write_parquet(folder / "pile_toy.parquet")
    return folder


SMALL = (*QUICK, "cnn.epochs=1", "control.members=0")


def test_the_papers_format_goes_through_all_stages(filters, tmp_path, labelled):
    given = (*SMALL, f"root={tmp_path}", "corpus=semantic_filters", f"corpus.path={filters}", "llm.semantic_filters=toy")
    process = memgrid_here(*given, "select.train_per_class=400", "select.eval_per_class=150")
    assert "memorized (memorized, templates, rouge computed)" in process.stdout
    (metrics,) = tmp_path.glob("runs/toy/rasy/*/metrics.json")
    assert json.loads(metrics.read_text())["confidence"]  # the model's confidence is known, though no label had it
    # What the corpus claims wrongly of this model is said, and every other label stands.
    assert "sequences memorized that llm 'toy' does not continue word for word" in process.stderr
    disputed = int(process.stderr.split("calls ")[1].split()[0])
    samples = pl.read_parquet(metrics.parent / "samples.parquet").join(labelled.select("sequence_id", "memorized"), on="sequence_id")
    assert disputed == samples.filter(pl.col("title") != "Non-Memo", ~pl.col("memorized")).height
    assert 0 < disputed <= 10


def test_a_users_text_goes_through_all_stages(tmp_path, toy_lm, labelled):
    """Memorized sequences as documents of their own, some twice: every label is computed."""
    chosen = pl.concat([labelled.filter("memorized").head(150), labelled.filter(~pl.col("memorized")).head(80)])
    texts = toy_lm.detokenize(np.array(chosen["tokens"].to_list()))
    lines = [json.dumps({"body": text}) for text in [*texts, *texts[:40]]]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    given = ("corpus=text", "corpus.name=mine", f"corpus.path={tmp_path / 'mine.jsonl'}", "corpus.column=body")
    shown = memgrid_here(*QUICK, *given, f"root={tmp_path}", "taxonomy=recite_code", "stages=[label]").stdout
    assert "duplicates" in shown
    assert "judged for code" in shown
    labels = pl.concat([pl.read_parquet(path) for path in sorted(tmp_path.glob("labels/toy/mine/*.parquet"))], how="align")
    assert {"memorized", "duplicates", "is_code"} <= set(labels.columns)
    assert labels["duplicates"].max() >= 2
    assert labels["memorized"].sum() > 100


def test_tokens_of_another_model_are_refused(tmp_path):
    make_semantic_filters(tmp_path / "filters", 300)
    given = ("corpus=semantic_filters", f"corpus.path={tmp_path / 'filters'}", "llm.semantic_filters=deduped_12b")
    process = memgrid_here(*QUICK, *given, f"root={tmp_path}", check=False)
    assert process.returncode == 1
    assert "but llm 'toy' knows only 0 to" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["llm=pythia-70m-deduped"], ["llm.path=EleutherAI/pythia-70m-deduped-v0", "HF_HUB_OFFLINE is set"]),
        (["corpus=semantic_filters", "llm.semantic_filters=deduped_12b"], ["corpus.path=hf://", "HF_HUB_OFFLINE is set"]),
        (["label.code=fasttext", "taxonomy=code"], ["label.code_model=kenhktsui/", "HF_HUB_OFFLINE is set"]),
    ],
)
def test_without_a_network_fetching_is_refused_in_one_sentence(given, words, tmp_path):
    process = memgrid_here(*given, f"root={tmp_path}", "stages=[fetch]", check=False)
    assert process.returncode == 1
    (sentence,) = [line for line in process.stderr.splitlines() if line.startswith("memgrid:")]
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["llm=pythia-70m-deduped"], ["llm.path=EleutherAI/pythia-70m-deduped-v0", "stages=[fetch]"]),
        (["corpus=semantic_filters", "llm.semantic_filters=deduped_12b"], ["corpus.path=hf://", "stages=[fetch]"]),
        (["corpus=semantic_filters"], ["this llm has no split in semantic-filters"]),
    ],
)
def test_what_was_not_fetched_is_told_before_any_work(given, words, tmp_path):
    process = memgrid_here(*given, f"root={tmp_path}", check=False)
    assert process.returncode == 1
    (sentence,) = [line for line in process.stderr.splitlines() if line.startswith("memgrid:")]
    assert all(word in sentence for word in words), sentence
    assert "label" not in process.stdout


def test_there_is_nothing_to_fetch_for_the_embedded_model(tmp_path):
    assert "fetch    nothing to download" in memgrid_here(f"root={tmp_path}", "stages=[fetch]").stdout


def test_a_failed_job_without_training_is_told_until_it_succeeds(done, quick, tmp_path):
    words = (*quick, f"root={tmp_path}", "part=1", "parts=3")
    assert memgrid_here(*words, "stages=[extract]", "-m", check=False).returncode == 1
    (row,) = states(tmp_path).rows(named=True)
    assert (row["llm"], row["taxonomy"], row["name"].rpartition("-")[0], row["state"]) == ("toy", "rasy", "extract-part1of3", "failed")
    assert "add label to stages" in row["detail"]
    shutil.copytree(done / "labels", tmp_path / "labels", dirs_exist_ok=True)
    memgrid_here(*words, "stages=[extract]")
    assert not states(tmp_path).height
