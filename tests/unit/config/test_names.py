"""What a run is called stays: finished runs are found by their names."""

import json
from dataclasses import asdict, replace
from functools import partial

import pytest
from omegaconf import OmegaConf
from runs_maker import composed

from memgrid.config.names import run_folder, settings, training_key
from memgrid.config.schema import TaxonomyConfig

EARLIER = ("cnn.epochs=10", "cnn.dropout=0.25", "cnn.schedule=constant")  # what the default was


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (EARLIER, "rho0.5-both-seed0-e23e725aca"),
        ((*EARLIER, "select.non_memorized=any", "select.decoded=continuation"), "rho0.5-both-seed0-e23e725aca"),
    ],
)
def test_settings_that_came_later_do_not_rename_older_runs(overrides, name):
    run = composed(overrides)
    assert run_folder(run).name == name
    assert not {"non_memorized", "decoded"} & set(settings(run)["select"])


def test_hard_negatives_are_in_the_name():
    given = [(), ("select.non_memorized=matched",), ("select.decoded=suffix",), ("select.non_memorized=matched", "select.decoded=suffix")]
    assert len({run_folder(composed(overrides)).name for overrides in given}) == 4


TEXT = ("llm=hf", "llm.name=x", "llm.path=y", "corpus=text", "corpus.name=z", "corpus.path=w")


@pytest.mark.parametrize("given", [(), ("llm=tiny_random", "cnn=paper", "compat=paper", "rho=1"), TEXT])
def test_settings_have_the_types_of_the_schema(given):
    """A threshold typed as 1 is 1.0 in them, and so the same run."""
    run = composed(given)
    assert json.dumps(asdict(run)) == json.dumps(OmegaConf.to_container(OmegaConf.structured(run)))


# As the version before degrees named them (98b44b9): what that finished is found.
NAMED_BEFORE = {
    ("taxonomy=rasy",): "rho0.5-both-seed0-e23e725aca",
    ("taxonomy=recite_code",): "delta50-seed0-bb65c4182c",
    ("taxonomy=prashanth", "compat=paper"): "delta50-rho0.5-both-seed0-00c8b07eb6",
    ("taxonomy=null_duplicates",): "seed0-b127580ac7",
    ("taxonomy=code", "label.code=usepackage"): "seed0-c04c4616a5",
    ("taxonomy=guess", "llm=toy_reference"): "rho0.5-both-seed0-30b698eee2",
    ("taxonomy=rasy", "llm=pythia-70m"): "rho0.5-both-seed0-6f2ade927e",
    ("taxonomy=guess_or_recollect", "select.non_memorized=matched"): "delta50-rho0.5-both-seed0-dc35d9f356",
    ("taxonomy=rasy", "llm.revision=step300"): "rho0.5-both-seed0-1068411d41",
}
DEGREES = ("llm.reference=toy", "llm.reference=null", "llm.steps=[step300]", "llm.steps=[]", "label.temperature=0.5", "label.top_k=40")


@pytest.mark.parametrize("given", NAMED_BEFORE)
@pytest.mark.parametrize("more", [(), *((word,) for word in DEGREES), ("label.temperature=0.5", "label.top_k=40", "llm.steps=[]")])
def test_runs_keep_their_names_whatever_is_set_that_no_rule_of_theirs_reads(given, more):
    run = composed((*EARLIER, *given, *more))
    assert run_folder(run).name == NAMED_BEFORE[given]
    assert not {"reference", "steps"} & set(settings(run)["llm"])
    assert settings(run)["taxonomy"].keys() == {"name", "classes"}


def comparing(column, *overrides):
    """A run whose only rule of its own compares a column."""
    run = composed(overrides)
    return replace(run, taxonomy=TaxonomyConfig("mine", {"A": {"column": column, "above": 0.5}, "B": "memorized"}))


def of_taxonomy(name, *overrides):
    return composed((f"taxonomy={name}", *overrides))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (partial(of_taxonomy, "extractable"), {"label.temperature=0.5", "label.top_k=40"}),
        (partial(of_taxonomy, "counterfactual"), {"llm.reference=toy"}),
        (partial(of_taxonomy, "onset"), {"llm.steps=[step300]"}),
        (partial(of_taxonomy, "near_verbatim"), set()),
        (partial(comparing, "near"), set()),
        (partial(comparing, "min_k_plus"), set()),
        (partial(comparing, "p_extract"), {"label.temperature=0.5", "label.top_k=40"}),
        (partial(comparing, "reference_confidence"), {"llm.reference=toy"}),
        (partial(comparing, "reference_p_extract"), {"label.temperature=0.5", "label.top_k=40", "llm.reference=toy"}),
    ],
)
def test_what_a_rule_reads_is_in_the_name(given, read):
    usual = run_folder(given()).name
    words = [word for word in DEGREES if not word.endswith(("null", "[]"))]
    names = {word: run_folder(given(word)).name for word in words}
    assert {word for word, name in names.items() if name != usual} == read
    assert len(set(names.values()) - {usual}) == len(read)
    assert len({training_key(given()), *(training_key(given(word)) for word in read)}) == len(read) + 1


@pytest.mark.parametrize(
    ("name", "threshold", "values"),
    [("extractable", "p", (0.001, 0.1)), ("near_verbatim", "edits", (5, 2)), ("onset", "step", (2900, 300))],
)
def test_thresholds_of_its_own_are_in_the_name_of_a_run_and_of_what_it_trains(name, threshold, values):
    usual = composed((f"taxonomy={name}",))
    runs = [composed((f"taxonomy={name}", f"taxonomy.thresholds.{threshold}={value}")) for value in values]
    assert [settings(run)["taxonomy"]["thresholds"] for run in runs] == [{threshold: value} for value in values]
    assert run_folder(runs[0]).name == run_folder(usual).name != run_folder(runs[1]).name
    assert training_key(runs[0]) == training_key(usual) != training_key(runs[1])
