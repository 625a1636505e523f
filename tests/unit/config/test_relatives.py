"""Models beside a run's own: its reference and steps of its training, found by their names, or refused before any work."""

import pytest
from conftest import refusal
from settings_maker import composed

from memgrid.config.derive import reference_of, steps_of
from memgrid.config.schema import LLMConfig
from memgrid.io.paths import CONF

OWN = {"dtype": "bfloat16", "device": "cpu", "device_map": None, "batch_tokens": 512}


def given(**settings):
    return LLMConfig(name="mine", path="someone/mine", **{**OWN, **settings})


def found(reference):
    return reference_of(given(reference=reference, steps=["step1"], revision="main", semantic_filters="mine"))


def test_without_a_name_there_is_no_reference():
    assert found(None) is None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("toy", LLMConfig(name="toy", path=None, **OWN)),
        ("toy_reference", LLMConfig(name="toy_reference", path=None, **OWN)),
        ("toy@step300", LLMConfig(name="toy", path=None, revision="step300", **OWN)),
        (
            "pythia-70m",
            LLMConfig(name="pythia-70m", path="EleutherAI/pythia-70m-v0", semantic_filters="duped_70m", **OWN),
        ),
        (
            "pythia-70m@step1000",
            LLMConfig(name="pythia-70m", path="EleutherAI/pythia-70m-v0", revision="step1000", semantic_filters="duped_70m", **OWN),
        ),
        ("someone/other", LLMConfig(name="other", path="someone/other", **OWN)),
        ("someone/other@refs/pr/1", LLMConfig(name="other", path="someone/other", revision="refs/pr/1", **OWN)),
        ("gpt2", LLMConfig(name="gpt2", path="gpt2", **OWN)),
    ],
)
def test_a_reference_is_found_by_its_name_and_computed_with_like_the_model(reference, expected):
    assert found(reference) == expected


def test_a_reference_with_random_weights_keeps_what_they_are_made_from():
    made = found("tiny_random")
    assert (made.name, made.path) == ("tiny_random", None)
    assert made.random["vocab_size"] == 2048


@pytest.mark.parametrize("name", ["other", "me@home/other", "model@step300"])
def test_a_folder_is_found_whatever_its_path_looks_like(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    made = found(str(folder))
    assert (made.path, made.revision) == (str(folder), None)
    assert found(f"{folder}/").name == made.name == folder.name


def test_steps_are_revisions_or_folders():
    llm = given(reference="toy", steps=["step10", "/data/step20", "step30"], revision="main")
    made = steps_of(llm)
    assert [(step.path, step.revision) for step in made] == [("someone/mine", "step10"), ("/data/step20", None), ("someone/mine", "step30")]
    assert all((step.name, step.reference, step.steps, step.dtype) == ("mine", None, [], "bfloat16") for step in made)
    assert steps_of(given()) == []


COUNTERFACTUAL, ONSET = "taxonomy=counterfactual", "taxonomy=onset"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((COUNTERFACTUAL, "llm.reference=null"), "llm.reference names no model: set it, as to toy_reference"),
        ((COUNTERFACTUAL, "llm=tiny_random"), "llm.reference names no model"),
        ((COUNTERFACTUAL, "llm.reference=toy@step7"), "step7 is no training step of the embedded model toy: it has step300, "),
        ((COUNTERFACTUAL, "llm.reference=toy_reference@step300"), "no training step of the embedded model toy_reference: it has none"),
        ((COUNTERFACTUAL, "llm.reference='mine/a b'"), "llm.reference=mine/a b ends in a name that no folder of labels can have: use an "),
        ((COUNTERFACTUAL, "llm.reference=hf"), "llm.reference=hf ends in a name that no folder"),
        ((ONSET, "llm.steps=[]"), "llm.steps names no model: set it, as to [step300,step2900]"),
        ((ONSET, "llm=toy_reference"), "llm.steps names no model"),
        ((ONSET, "llm.steps=[step2900,step300]"), "llm.steps=[step2900,step300]: step300 must tell a training step, after those before"),
        ((ONSET, "llm.steps=[step300,step300]"), "llm.steps=[step300,step300]: step300 must tell a training step, after those before"),
        ((ONSET, "llm.steps=[final]"), "llm.steps=[final]: final must tell a training step"),
        (
            (ONSET, "llm.steps=[step300,step2900]", "llm.revision=step2900"),
            "step2900 must tell a training step, after those before",
        ),
        ((ONSET, "llm.steps=[step5000]", "llm.revision=step2900"), "and before the model's own (2900)"),
        ((ONSET, "llm.steps=[step7]"), "step7 is no training step of the embedded model toy: it has step300"),
        ((ONSET, "llm=hf", "llm.name=x", "llm.path=/x/step9", "llm.steps=[/x/step3,/x/step20]"), "before the model's own (9)"),
    ],
)
def test_what_cannot_be_another_model_is_refused_in_a_sentence(words, sentence):
    assert sentence in refusal(composed, *words)


@pytest.mark.parametrize(
    "words",
    [
        (ONSET,),
        (ONSET, "llm.steps=[step300]"),
        (ONSET, "llm.revision=step5000", "llm.steps=[step300,step2900]"),
        (ONSET, "llm=pythia-70m", "llm.steps=[step0,step1,step1000]"),
        (ONSET, "llm=hf", "llm.name=x", "llm.path=/x/step99", "llm.steps=[/x/step3,/x/step20]"),
        (COUNTERFACTUAL,),
        (COUNTERFACTUAL, "llm.reference=toy@step300"),
        ("taxonomy=rasy", "llm.steps=[final]"),  # nobody reads them
        ("taxonomy=rasy", "llm.reference=null"),
    ],
)
def test_what_can_be_is_not(words):
    assert composed(*words).llm.steps is not None


def test_every_model_of_the_configuration_can_be_a_reference():
    for name in sorted({path.stem for path in (CONF / "llm").glob("*.yaml")} - {"hf"}):
        assert reference_of(composed(f"llm.reference={name}").llm).name == name
