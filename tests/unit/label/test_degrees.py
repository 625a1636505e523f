"""Label files of how memorized a sequence is: beside older files, beside what a corpus brings, per setting, and block by block."""

import json

import numpy as np
import polars as pl
import pytest
from labels_maker import few, reader
from models_maker import five_words

from memgrid.config.schema import LabelConfig
from memgrid.corpus.corpus import Corpus
from memgrid.io.digests import write_parquet
from memgrid.label import labels as label
from memgrid.label.labels import Labels
from memgrid.taxonomy.columns import DEGREES, GROUPS, KNOWN

REFERENCE = {"reference": {"reference": "other", "fingerprint": "one"}}
STEPS = {"onset": {"steps": {"small@step3": "three", "small@step9": "nine"}}}


def earlier(root, rows=5):
    """Labels of an earlier version, which knew nothing of degrees: one file, as it wrote it."""
    made = Labels(root, reader().identity, few(rows))
    numbers = np.arange(rows, dtype=np.float32)
    columns = {"memorized": np.arange(rows) % 2 == 0, "confidence": numbers, "prefix_logprob": -numbers, "suffix_logprob": numbers - 3}
    table = pl.DataFrame({"sequence_id": made.corpus.sequence_id, **columns})
    origin = json.dumps({"corpus": made.corpus.fingerprint, "k": 3, "llm": "weights"})
    write_parquet(table, made.path("memorized"), metadata={"memgrid": origin})
    return made


def test_labels_of_an_earlier_version_stay_as_they_are(tmp_path):
    made, model = earlier(tmp_path), reader()
    before = made.path("memorized").read_bytes()
    assert made.missing(["memorized", "degrees"]) == ["degrees"]
    made.compute("degrees", model)
    assert sum(model.read) == 5
    assert made.missing(["memorized", "degrees"]) == []
    assert made.path("memorized").read_bytes() == before
    assert made.read(["degrees"]).columns == ["sequence_id", *DEGREES]
    assert made.read(["memorized", "degrees"])["p_extract"].to_list() == [0, 1, 2, 3, 4]
    assert made.read(["memorized", "degrees"])["confidence"].to_list() == [0, 1, 2, 3, 4]


def test_one_pass_makes_both_files(tmp_path):
    made, model = Labels(tmp_path, reader().identity, few(5)), reader()
    made.compute("memorized", model)
    assert made.missing(["memorized", "degrees"]) == []
    assert sum(model.read) == 5
    assert made.read(["memorized"]).columns == ["sequence_id", *KNOWN]
    assert made.asks("degrees") == made.asks("near") == made.asks("memorized") == "lm"


def test_what_a_corpus_says_is_memorized_stays_and_the_model_says_how_well(tmp_path):
    says = np.array([False, True, False, True, False])  # the model says otherwise
    made, model = Labels(tmp_path, reader().identity, few(5, given={"memorized": says})), reader()
    made.compute("memorized", None)
    assert made.missing(["memorized", "degrees"]) == ["degrees"]
    assert (made.asks("memorized"), made.asks("degrees")) == (None, "lm")
    before = made.path("memorized").read_bytes()
    made.compute("degrees", model)
    assert made.path("memorized").read_bytes() == before
    assert made.read(["degrees"]).columns == ["sequence_id", *KNOWN[1:], *DEGREES]
    alone, table = made.read(["memorized"]), made.read(["memorized", "degrees"])
    assert alone["confidence"].is_nan().all()
    assert table["memorized"].to_list() == alone["memorized"].to_list() == says.tolist()
    assert table["confidence"].to_list() == [0, 1, 2, 3, 4]
    assert table["suffix_logprob"].to_list() == [-3, -2, -1, 0, 1]
    assert table["shortest_prefix"].to_list() == [6] * 5


def five_word_labels(root, rows, **settings):
    tokens = np.random.default_rng(0).integers(0, 5, (rows, 7)).astype(np.int32)
    lm = five_words()
    made = Labels(root, lm.identity, Corpus("few", np.arange(rows), tokens, 4, None), LabelConfig(**settings))
    return made, lm


def test_each_way_to_draw_has_files_of_its_own(tmp_path):
    """What is memorized, they share; no file is taken for another's, and the plain one has the name that it always had."""
    ways = [{}, {"temperature": 0.5}, {"top_k": 3}, {"temperature": 0.5, "top_k": 3}, {"temperature": 2.0, "top_k": 1}]
    every = [five_word_labels(tmp_path, 9, **way) for way in ways]
    names = [made.path("degrees").name for made, _ in every]
    assert names == [f"degrees{end}.parquet" for end in ("", "-t0.5", "-t1-k3", "-t0.5-k3", "-t2-k1")]
    tables = []
    for place, (made, lm) in enumerate(every):
        assert made.missing(["memorized", "degrees"]) == (["degrees"] if place else ["memorized", "degrees"])
        before = made.path("memorized").read_bytes() if place else None
        drawn = type(lm)(**{**vars(lm), "sampling": made.sampling})
        made.compute("degrees", drawn)
        assert before in (None, made.path("memorized").read_bytes())
        assert made.missing(["memorized", "degrees"]) == []
        np.testing.assert_array_equal(made.read(["degrees"])["p_extract"], drawn.score(made.corpus.tokens, 4).p_extract)
        tables.append(made.read(["degrees"]))
    for table in tables[1:]:
        assert not table["p_extract"].equals(tables[0]["p_extract"])
        np.testing.assert_allclose(table["min_k_plus"], tables[0]["min_k_plus"], rtol=1e-5)
    every[0][0].path("degrees").rename(every[1][0].path("degrees"))
    assert every[1][0].missing(["degrees"]) == ["degrees"]  # of another temperature, whatever it is called


def test_without_the_end_of_text_all_that_is_continued_is_kept_apart(tmp_path):
    made = Labels(tmp_path, reader().identity, few(2), LabelConfig(temperature=0.5), ending="_no_end", others=REFERENCE)
    names = {group: made.path(group).name for group in GROUPS}
    assert names == {
        "memorized": "memorized_no_end.parquet",
        "degrees": "degrees_no_end-t0.5.parquet",
        "duplicates": "duplicates.parquet",
        "templates": "templates.parquet",
        "rouge": "rouge.parquet",
        "code": "code-magika.parquet",
        "near": "near_no_end.parquet",
        "reference": "reference_no_end-other-t0.5.parquet",
        "onset": "onset_no_end.parquet",
    }


@pytest.mark.parametrize("ending", ["", "_no_end"])
@pytest.mark.parametrize("group", ["reference", "onset"])
def test_what_other_models_say_of_two_ways_to_continue_is_never_mixed(group, ending, tmp_path):
    """A reference and steps of a training continue as the model itself does: without the end of text, or with it."""
    usual, open_ended = (Labels(tmp_path, reader().identity, few(2), ending=end, others={**REFERENCE, **STEPS}) for end in ("", "_no_end"))
    made, other = (usual, open_ended) if not ending else (open_ended, usual)
    made.write(group, {name: np.zeros(2) for name in GROUPS[group]})
    assert made.has(group)
    assert not other.has(group)


def test_a_reference_is_asked_again_how_probable_it_is_to_draw_a_suffix_otherwise(tmp_path):
    plain, drawn = (Labels(tmp_path, reader().identity, few(2), config, others=REFERENCE) for config in (None, LabelConfig(top_k=3)))
    plain.write("reference", {name: np.zeros(2) for name in GROUPS["reference"]})
    assert plain.path("reference").name == "reference-other.parquet"
    assert (plain.has("reference"), drawn.has("reference")) == (True, False)
    plain.path("reference").rename(drawn.path("reference"))
    assert not drawn.has("reference")


@pytest.mark.parametrize(
    ("group", "others", "changed"),
    [
        ("reference", REFERENCE, {"reference": {"reference": "other", "fingerprint": "two"}}),
        ("reference", REFERENCE, {"reference": {"reference": "third", "fingerprint": "one"}}),
        ("onset", STEPS, {"onset": {"steps": {"small@step3": "three", "small@step9": "other"}}}),
        ("onset", STEPS, {"onset": {"steps": {"small@step9": "nine"}}}),
        ("onset", STEPS, {"onset": {"steps": {"small@step9": "nine", "small@step3": "three"}}}),
    ],
)
def test_what_was_made_from_other_models_is_made_anew(group, others, changed, tmp_path):
    made, other = (Labels(tmp_path, reader().identity, few(2), others=given) for given in (others, changed))
    made.write(group, {name: np.zeros(2) for name in GROUPS[group]})
    assert made.missing([group]) == []
    assert other.missing([group]) == [group]
    other.write(group, {name: np.ones(2) for name in GROUPS[group]})
    assert other.missing([group]) == []
    assert set(other.read([group])[GROUPS[group][-1]]) == {1}


@pytest.mark.parametrize("group", ["degrees", "near"])
def test_what_was_cut_off_goes_on_block_by_block(group, tmp_path, monkeypatch):
    whole, lm = five_word_labels(tmp_path / "whole", 30)
    for each in ("memorized", "near"):
        whole.compute(each, lm)
    monkeypatch.setattr(label, "BLOCK_ROWS", 8)
    cut, _ = five_word_labels(tmp_path / "cut", 30)
    cut.write("memorized", {name: whole.read(["memorized"])[name] for name in KNOWN})
    function, read, last = {"degrees": "label_memorized", "near": "label_near"}[group], [], [16]
    honest = getattr(label, function)

    def counted(*given):
        rows = next(one for one in given if isinstance(one, slice))
        if rows.start == last[0]:
            raise KeyboardInterrupt
        read.append(rows.start)
        return honest(*given)

    monkeypatch.setattr(label, function, counted)
    with pytest.raises(KeyboardInterrupt):
        cut.compute(group, lm)
    assert (read, cut.has(group)) == ([0, 8], False)
    assert len(list(cut.blocks(group).glob("*.parquet"))) == 2
    last[0], read[:] = None, []
    cut.compute(group, lm)
    assert read == [16, 24]
    assert not cut.blocks(group).exists()
    for name in GROUPS[group]:
        np.testing.assert_allclose(cut.read([group])[name], whole.read([group])[name], rtol=1e-4, atol=1e-7)
    assert cut.missing(["memorized", group]) == []


def test_blocks_of_another_temperature_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(label, "BLOCK_ROWS", 8)
    warm, lm = five_word_labels(tmp_path, 10, temperature=2.0)
    cold, _ = five_word_labels(tmp_path, 10, temperature=0.5)
    warm.in_blocks("degrees", lambda rows: {name: np.full(len(cold.corpus.tokens[rows]), 7.0) for name in (*KNOWN, *DEGREES)})
    assert warm.blocks("degrees").exists()
    cold.compute("degrees", lm)
    assert 7.0 not in cold.read(["degrees"])["min_k"].to_list()
    assert warm.blocks("degrees").exists()


def test_how_near_is_asked_only_of_what_is_not_memorized(tmp_path):
    """With the labels that are there, whoever made them."""
    made, lm = five_word_labels(tmp_path, 12)
    memorized = np.arange(12) % 3 == 0
    made.write("memorized", {"memorized": memorized, **dict.fromkeys(KNOWN[1:], np.zeros(12))})
    made.compute("near", lm)
    table = made.read(["memorized", "near"])
    assert table.filter("memorized")["near"].to_list() == [0] * 4
    said = lm.continue_greedily(made.corpus.prefix, 3)
    right = np.where(memorized, 1, (said == made.corpus.suffix).mean(1))
    np.testing.assert_allclose(table["right_share"], right, rtol=1e-6)
