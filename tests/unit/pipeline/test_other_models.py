"""Labels that are made from several models, on a few embedded sequences: a reference, and steps of a training."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import every, refusal
from models_maker import whole_folder
from semantic_filters_maker import rows as filter_rows
from settings_maker import composed

from memgrid.config.schema import TaxonomyConfig
from memgrid.io.paths import TOY
from memgrid.launch.workspace import Workspace
from memgrid.pipeline import context as context_module
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.stages import do_stages
from memgrid.taxonomy.columns import DEGREES, KNOWN

COLUMNS = (*KNOWN, *DEGREES)


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    """Twenty sequences, every kind among them."""
    return every(20, mini, tmp_path_factory.mktemp("twenty"))


@pytest.fixture(scope="module")
def labelled(folder, tmp_path_factory):
    """Does the stage label in a root that all tests here share, and returns what it left."""
    root = tmp_path_factory.mktemp("root")

    def do(*words, root=root, **changes):
        run = composed("corpus=tables", f"corpus.path={folder}", "corpus.name=twenty", *words)
        run = replace(run, root=str(root), stages=["label"], **changes)
        do_stages(run, Workspace())
        return RunContext(run, Workspace())

    return do


@pytest.fixture(scope="module")
def alone(labelled, tmp_path_factory):
    """What a model says of them in a run of its own, in a root of its own."""

    def do(*words):
        rules = TaxonomyConfig("alone", {"A": {"column": "p_extract", "above": 0.5}, "B": "memorized"})
        return labelled(*words, root=tmp_path_factory.mktemp("alone"), taxonomy=rules).features

    return do


def never_loaded(monkeypatch):
    monkeypatch.setattr(context_module, "load_language_model", lambda *_: pytest.fail("a model was loaded"))


def test_a_model_beside_itself_differs_in_nothing(labelled):
    made = labelled("taxonomy=counterfactual", "llm.reference=toy")
    table = made.labels.read(("memorized", "degrees", "reference"))
    assert set(table["counterfactual"]) == {0.0}
    for name in COLUMNS:
        assert table[f"reference_{name}"].equals(table[name].alias(f"reference_{name}")), name
    classes = made.classify()
    assert [made.titles[place] for place in np.unique(classes)] == ["Non-Memo", "Guess"]


def test_a_reference_says_what_it_says_alone(labelled, alone):
    made = labelled("taxonomy=counterfactual")
    assert made.labels.path("reference").name == "reference-toy_reference.parquet"
    table, other = made.labels.read(("memorized", "degrees", "reference")), alone("llm=toy_reference")
    for name in COLUMNS:
        np.testing.assert_array_equal(table[f"reference_{name}"], other[name], err_msg=name)
    expected = table["suffix_logprob"].to_numpy() - other["suffix_logprob"].to_numpy()
    np.testing.assert_array_equal(table["counterfactual"], expected)
    assert {made.titles[place] for place in made.classify()} == {"Non-Memo", "Guess", "Recall"}
    guessed = table["memorized"].to_numpy() & other["memorized"].to_numpy()
    assert (np.array(made.titles)[made.classify()] == "Guess").tolist() == guessed.tolist()


def test_a_reference_is_a_step_or_a_folder_too(labelled, alone, tmp_path):
    step = labelled("taxonomy=counterfactual", "llm.reference=toy@step300")
    np.testing.assert_array_equal(step.features["reference_memorized"], alone("llm.revision=step300")["memorized"])
    assert step.labels.path("reference").name == "reference-toy@step300.parquet"
    shutil.copytree(TOY / "step300", tmp_path / "elsewhere")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOY / name, tmp_path / "elsewhere")
    copied = labelled("taxonomy=counterfactual", f"llm.reference={tmp_path / 'elsewhere'}")
    for name in ("reference_memorized", "counterfactual"):
        np.testing.assert_array_equal(copied.features[name], step.features[name])
    assert copied.labels.path("reference") != step.labels.path("reference")


def test_what_another_model_said_is_not_taken_for_a_folder_of_the_same_name(labelled, tmp_path):
    """A reference whose weights change is another one."""
    for name, step in (("one", "step300"), ("two", "step5000")):
        shutil.copytree(TOY / step, tmp_path / name / "mine")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TOY / file, tmp_path / name / "mine")
    made = [labelled("taxonomy=counterfactual", f"llm.reference={tmp_path / name / 'mine'}") for name in ("one", "two")]
    assert made[0].labels.path("reference") == made[1].labels.path("reference")
    assert made[1].labels.has("reference")
    assert not RunContext(made[0].run, Workspace()).labels.has("reference")


def test_labels_that_know_no_degrees_do_for_rules_that_read_none(labelled, tmp_path):
    """As earlier versions left them: nothing is computed for those, and for others the degrees alone."""
    usual = labelled("taxonomy=rasy", root=tmp_path)
    usual.labels.path("degrees").unlink()
    files = {path: path.read_bytes() for path in usual.labels.folder.glob("*.parquet")}
    with pytest.MonkeyPatch.context() as patched:
        never_loaded(patched)
        labelled("taxonomy=rasy", root=tmp_path)
    assert not usual.labels.has("degrees")
    labelled("taxonomy=extractable", root=tmp_path)
    now = {path: path.read_bytes() for path in usual.labels.folder.glob("*.parquet")}
    assert set(now) - set(files) == {usual.labels.path("degrees")}
    assert all(now[path] == content for path, content in files.items())


def test_nothing_is_computed_twice(labelled, monkeypatch):
    labelled("taxonomy=counterfactual")
    never_loaded(monkeypatch)
    labelled("taxonomy=counterfactual")


@pytest.mark.parametrize("reference", ["/no/such/folder", "nobody_has_this", "someone/no-such-model", "pythia-70m"])
def test_a_reference_that_is_not_there_is_refused_before_any_work(reference, labelled, tmp_path, monkeypatch):
    never_loaded(monkeypatch)
    sentence = refusal(lambda: labelled("taxonomy=counterfactual", f"llm.reference={reference}", root=tmp_path))
    assert reference.rpartition("/")[2] in sentence
    assert not list(tmp_path.glob("labels/**/*.parquet"))


def test_a_reference_that_reads_other_tokens_is_refused_before_any_work(labelled, tmp_path, monkeypatch):
    whole_folder(tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    content = json.loads(path.read_text())
    one, other = sorted(content["model"]["vocab"])[-2:]
    vocabulary = content["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(content))
    never_loaded(monkeypatch)
    sentence = refusal(lambda: labelled("taxonomy=counterfactual", f"llm.reference={tmp_path / 'other'}", root=tmp_path / "root"))
    assert sentence == ("llm 'other' has another tokenizer than llm 'toy', so that it reads other tokens: choose a model with the same")
    assert not list(tmp_path.glob("root/labels/toy/**/*.parquet"))


def test_of_other_models_no_attention_is_kept(labelled, tmp_path):
    labelled("taxonomy=counterfactual", "extract.fused=true", root=tmp_path)
    assert [path.name for path in (tmp_path / "attention").iterdir() if path.is_dir()] == ["toy"]


def test_sampling_is_that_of_the_run_for_its_reference_too(labelled):
    rules = TaxonomyConfig("drawn", {"A": {"column": "reference_p_extract", "above": 0.5}, "B": "memorized"})
    plain, drawn = (labelled(*words, taxonomy=rules) for words in ((), ("label.top_k=1",)))
    assert set(drawn.features["reference_p_extract"]) <= {0.0, 1.0}
    np.testing.assert_array_equal(drawn.features["reference_p_extract"] == 1, drawn.features["reference_memorized"])
    assert not set(plain.features["reference_p_extract"]) <= {0.0, 1.0}
    assert plain.labels.path("reference") != drawn.labels.path("reference")


def test_where_the_corpus_says_what_is_memorized_the_model_says_how_probable(folder, tmp_path, labelled):
    """Its claim stays the label, whatever the model does; steps and references are never believed to do the same."""
    tokens = pl.read_parquet(folder / "sequences.parquet")["tokens"].cast(pl.List(pl.Int64)).to_list()
    ids, claimed = list(range(len(tokens))), np.arange(len(tokens)) % 2 == 0
    table = filter_rows(ids, tokens=tokens, memorization_score=claimed.astype(float).tolist())
    for split, chosen in (("memories", table.filter(claimed)), ("pile", table.filter(~claimed))):
        chosen.write_parquet(tmp_path / f"{split}_toy.parquet")
    words = ("corpus=semantic_filters", "corpus.name=filters", f"corpus.path={tmp_path}", "llm.semantic_filters=toy")
    root = tmp_path / "root"
    made = labelled(*words, "taxonomy=counterfactual", root=root)
    usual = labelled("taxonomy=counterfactual")
    order = made.corpus.sequence_id
    np.testing.assert_array_equal(made.features["memorized"], claimed[order])
    assert made.labels.read(["memorized"])["confidence"].is_nan().all()
    known = usual.labels.read(("memorized", "degrees", "reference"))[order]
    for name in ("confidence", "suffix_logprob", "reference_memorized", "counterfactual"):
        np.testing.assert_allclose(made.features[name].cast(float), known[name].cast(float), rtol=1e-3, atol=1e-3, err_msg=name)
    rules = TaxonomyConfig("sure", {"A": {"column": "confidence", "above": 0.9}, "B": "memorized"})
    sure = labelled(*words, root=root, taxonomy=rules)
    np.testing.assert_array_equal(sure.classify() == 0, made.features["confidence"] > 0.9)
    rasy = labelled(*words, "taxonomy=rasy", root=root)
    assert rasy.groups[0] == "memorized"
    assert "degrees" not in rasy.groups


STEPS = ("step300", "step2900", "step5000")


def test_onsets_are_what_the_steps_say(labelled, alone):
    made = labelled("taxonomy=onset")
    histories = [alone(f"llm.revision={step}")["memorized"].to_list() for step in STEPS]
    own = made.features["memorized"].to_list()
    steps = [300.0, 2900.0, 5000.0, np.inf]
    expected = []
    for history in zip(*histories, own, strict=True):
        place = len(history)
        while place and history[place - 1]:
            place -= 1
        expected.append([*steps, np.inf][place])
    assert made.features["onset"].to_list() == expected
    assert len(set(expected)) > 2
    titles = np.array(made.titles)[made.classify()].tolist()
    assert titles == ["Never" if not last else "Early" if onset <= 2900 else "Late" for onset, last in zip(expected, own, strict=True)]


def test_onsets_of_other_steps_are_made_anew(labelled):
    usual = labelled("taxonomy=onset")
    fewer = labelled("taxonomy=onset", "llm.steps=[step5000]")
    assert set(fewer.features["onset"]) <= {5000.0, np.inf}
    assert not RunContext(usual.run, Workspace()).labels.has("onset")
    earlier = labelled("taxonomy=onset", "llm.revision=step5000", "llm.steps=[step300,step2900]")
    assert 5000.0 in set(earlier.features["onset"])
    assert earlier.labels.path("onset") != fewer.labels.path("onset")
