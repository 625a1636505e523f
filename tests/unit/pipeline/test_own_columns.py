"""Columns of a user's own table in rules: from the file to labels and samples, and what is said of those that cannot be compared."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from runs_maker import Run, finish, rewrite
from settings_maker import composed

from memgrid.config.names import run_folder
from memgrid.config.schema import CorpusConfig, TaxonomyConfig
from memgrid.corpus.corpus import load_corpus
from memgrid.errors import UserError
from memgrid.launch.workspace import Workspace
from memgrid.pipeline import context as context_module
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.stages import do_stages
from memgrid.pipeline.sweep import result_of
from memgrid.taxonomy.columns import KNOWN

ROWS = 60
PII = {"Others": {"column": "is_pii", "is": False}, "PII": "memorized"}


def table():
    """Sequences with columns of a user's own, of every kind that a rule compares, in no order of their ids."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 2048, (ROWS, 64)).astype(np.int32)
    return pl.DataFrame(
        {
            "sequence_id": rng.permutation(ROWS) + 1000,
            "tokens": tokens,
            "is_pii": np.arange(ROWS) % 3 == 0,
            "age": rng.integers(0, 9, ROWS).astype(np.uint8),
            "weight": rng.random(ROWS),
            "source": rng.choice(["web", "books", "code"], ROWS),
            "unread": [None] * ROWS,
        }
    ).with_columns(pl.col("tokens").cast(pl.List(pl.Int32)))


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A run on such a table with labels, whose model must never be loaded; `changed` is the table."""
    monkeypatch.setattr(context_module, "load_language_model", lambda *_: pytest.fail("a model was loaded"))

    def make(classes, changed=None, labelled=True, **thresholds):
        (table() if changed is None else changed).write_parquet(tmp_path / "sequences.parquet")
        small = ("train_per_class=4", "eval_per_class=2", "min_train_per_class=2", "min_eval_per_class=1", "leak_free=false")
        run = composed("corpus=tables", "corpus.name=own", f"corpus.path={tmp_path}", *(f"select.{word}" for word in small))
        run = replace(run, root=str(tmp_path / "root"), stages=["label"], taxonomy=TaxonomyConfig("own", classes, thresholds))
        made = RunContext(run, Workspace())
        if labelled and not made.labels.has("memorized"):
            memorized = np.arange(ROWS) % 2 == 0
            made.labels.write("memorized", {"memorized": memorized, **dict.fromkeys(KNOWN[1:], np.zeros(ROWS))})
        return made

    return make


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"column": "is_pii", "is": True}, lambda row: row["is_pii"]),
        ({"column": "age", "at_least": 4}, lambda row: row["age"] >= 4),
        ({"column": "age", "is": 3}, lambda row: row["age"] == 3),
        ({"column": "weight", "below": "light"}, lambda row: row["weight"] < 0.3),
        ({"column": "source", "is": "books"}, lambda row: row["source"] == "books"),
        ({"column": "sequence_id", "above": 1030}, lambda row: row["sequence_id"] > 1030),
        (
            {"and": ["memorized", {"or": [{"not": {"column": "is_pii", "is": True}}, {"column": "source", "is": "web"}]}]},
            lambda row: row["memorized"] and (not row["is_pii"] or row["source"] == "web"),
        ),
    ],
)
def test_every_kind_of_column_from_the_file_to_the_class(rule, holds, context):
    made = context({"A": rule, "B": {"not": rule}}, **({"light": 0.3} if "light" in str(rule) else {}))
    do_stages(made.run, Workspace())
    rows = table().with_columns(memorized=pl.Series(np.arange(ROWS) % 2 == 0)).rows(named=True)
    expected = [0 if holds(row) else 1 for row in rows]
    assert made.classify().tolist() == expected
    assert set(expected) == {0, 1}
    samples = made.samples
    assert set(samples["side"]) == {"train", "eval"}
    place = {row["sequence_id"]: label for row, label in zip(rows, expected, strict=True)}
    assert samples["label"].to_list() == [place[one] for one in samples["sequence_id"].to_list()]


@pytest.mark.parametrize(
    ("rule", "change", "words"),
    [
        ({"column": "is_pi", "is": True}, {}, ["lacks the column 'is_pi', which a rule of the taxonomy compares; it has sequence_id"]),
        ({"column": "age", "above": 3}, {"age": [None, *range(ROWS - 1)]}, ["'age' of", "does not say what 1 sequences are: fill it"]),
        ({"column": "weight", "above": 3}, {"weight": [np.nan] * 2 + [1.0] * (ROWS - 2)}, ["does not say what 2 sequences are: fill it"]),
        ({"column": "is_pii", "is": True}, {"is_pii": [[True]] * ROWS}, ["'is_pii' of", "holds List(Boolean): a rule can compare"]),
        ({"column": "unread", "above": 3}, {}, ["holds Null: a rule can compare truth values, numbers and words"]),
        ({"column": "source", "is": 3}, {}, ["the rule source is 3, but column 'source' holds String: compare it with such a value"]),
        ({"column": "source", "above": 3}, {}, ["the rule source above 3, but column 'source' holds String"]),
        ({"column": "age", "is": "three"}, {}, ["the rule age is three, but column 'age' holds UInt8"]),
        ({"column": "age", "is": True}, {}, ["the rule age is true, but column 'age' holds UInt8"]),
        ({"column": "is_pii", "is": 1}, {}, ["the rule is_pii is 1, but column 'is_pii' holds Boolean"]),
        ({"column": "weight", "is": False}, {}, ["the rule weight is false, but column 'weight' holds Float64"]),
    ],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_what_cannot_be_compared_is_told_before_a_model_is_loaded(rule, change, words, labelled, context):
    changed = table().with_columns(**{name: pl.Series(values) for name, values in change.items()})
    made = context({"A": rule, "B": "memorized", "C": "non_memorized"}, changed, labelled)
    sentence = refusal(do_stages, made.run, Workspace())
    assert all(word in sentence for word in words), sentence


def test_columns_that_no_rule_reads_may_hold_anything(context):
    changed = table().with_columns(is_pii=pl.Series([[None]] * ROWS), weight=pl.Series([np.nan] * ROWS))
    made = context({"A": {"column": "age", "above": 3}, "B": "memorized", "C": "non_memorized"}, changed)
    do_stages(made.run, Workspace())
    assert made.corpus.fingerprint == load_corpus(made.run.corpus).fingerprint


def test_a_corpus_without_a_table_of_its_own_has_no_such_columns(context):
    made = context(PII)
    with pytest.raises(UserError, match="has no table with the column 'is_pii'"):
        replace(made.corpus, brought=None).own(("is_pii",))


def test_a_finished_run_notices_the_columns_that_its_rules_read(context):
    """Changed values, not the place of a column nor any that no rule reads; rules that read none notice nothing, as ever."""
    own, rasy = context(PII).run, replace(context(PII).run, taxonomy=composed().taxonomy)
    runs = {name: replace(run, stages=["train"], force=False) for name, run in (("own", own), ("rasy", rasy))}
    for run in runs.values():
        folder = finish(Run(run.root))
        target = run_folder(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        corpus = load_corpus(run.corpus)
        names = ("is_pii",) if run.taxonomy.name == "own" else ()
        rewrite(target, origin={"corpus": corpus.origin(names), "llm": RunContext(run, Workspace()).identity.fingerprint})
    assert load_corpus(own.corpus).origin(()) == load_corpus(own.corpus).fingerprint
    assert all(result_of(run) is not None for run in runs.values())
    path = own.corpus.path + "/sequences.parquet"
    for harmless in (pl.col("age") + 1, pl.lit("x").alias("source"), pl.lit(7).alias("later")):
        table().with_columns(harmless).write_parquet(path)
        assert all(result_of(run) is not None for run in runs.values())
    flipped = table()["is_pii"].to_list()
    flipped[7] = not flipped[7]
    table().with_columns(is_pii=pl.Series(flipped)).write_parquet(path)
    assert "holds other sequences than when this run was finished" in refusal(result_of, runs["own"])
    assert result_of(runs["rasy"]) is not None
    assert result_of(replace(runs["own"], force=True)) is None
    table().drop("is_pii").write_parquet(path)
    assert "lacks the column 'is_pii'" in refusal(result_of, runs["own"])
    assert result_of(runs["rasy"]) is not None
    table().write_parquet(path)
    assert result_of(runs["own"]) is not None


def test_the_origin_of_columns_is_the_same_in_any_version(tmp_path):
    """It stands in results that outlive this one: written down here by hand."""
    made = table().with_columns(
        sequence_id=pl.int_range(ROWS), tokens=pl.Series(np.arange(ROWS * 64).reshape(ROWS, 64)).cast(pl.List(pl.Int32))
    )
    made.with_columns(age=pl.int_range(ROWS) % 7, weight=pl.int_range(ROWS) / 8).write_parquet(tmp_path / "sequences.parquet")
    corpus = load_corpus(CorpusConfig(name="own", path=str(tmp_path)))
    digest = hashlib.sha256(corpus.fingerprint.encode())
    digest.update(f"age {ROWS}".encode() + struct.pack(f"<{ROWS}q", *(row % 7 for row in range(ROWS))))
    digest.update(f"weight {ROWS}".encode() + struct.pack(f"<{ROWS}d", *(row / 8 for row in range(ROWS))))
    expected = digest.hexdigest()[:16]
    assert corpus.origin(("weight", "age")) == expected == "8efbb8994f158bdd"


def test_words_that_are_the_same_when_joined_are_told_apart(tmp_path):
    made = table().with_columns(
        sequence_id=pl.int_range(ROWS), tokens=pl.Series(np.arange(ROWS * 64).reshape(ROWS, 64)).cast(pl.List(pl.Int32))
    )
    origins = []
    for words in (["ab", "c"], ["a", "bc"], ["ab", "d"]):
        made.with_columns(word=pl.Series(words * (ROWS // 2) + words[: ROWS % 2])).write_parquet(tmp_path / "sequences.parquet")
        origins.append(load_corpus(CorpusConfig(name="own", path=str(tmp_path))).origin(("word",)))
    assert len(set(origins)) == 3


def test_the_origin_of_columns_does_not_depend_on_their_order(context):
    corpus = context(PII).corpus
    assert corpus.origin(("age", "is_pii")) == corpus.origin(("is_pii", "age"))
    assert len({corpus.origin(names) for names in ((), ("age",), ("is_pii",), ("age", "is_pii"))}) == 4
