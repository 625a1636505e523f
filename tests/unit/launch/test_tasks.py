"""Tasks: which runs of a sweep share a job, and what changed since it was submitted."""

from dataclasses import replace

import pytest
from settings_maker import composed

from memgrid.launch.tasks import Task, changes, groups, without_repeats
from memgrid.pipeline.sweep import Runs


def grouped(*combinations):
    return [
        [work.number for work in group]
        for group in groups([Task(n, list(given), composed(*given)) for n, given in enumerate(combinations)], Runs())
    ]


def test_equal_trainings_share_a_job():
    given = [(f"taxonomy={name}", f"delta={delta}") for name in ("recite", "recollect", "rasy") for delta in (5, 50)]
    assert grouped(*given) == [[0, 2], [1, 3], [4, 5]]


def test_stages_after_training_share_a_job_as_trainings_do():
    given = [(f"taxonomy={name}", "stages=[localize,intervene]") for name in ("recite", "recollect", "rasy")]
    assert grouped(*given) == [[0, 1], [2]]


def test_the_papers_way_has_a_job_for_each():
    assert grouped(("taxonomy=recite", "compat=paper"), ("taxonomy=recollect", "compat=paper")) == [[0], [1]]


def test_extraction_has_a_job_for_each_part_of_a_model():
    given = [
        (f"taxonomy={name}", f"llm={llm}", f"part={part}", "parts=2", "stages=[extract]")
        for llm in ("toy", "tiny_random")
        for name in ("rasy", "recite")
        for part in (0, 1)
    ]
    assert grouped(*given) == [[0, 2], [1, 3], [4, 6], [5, 7]]


def test_roots_are_kept_apart():
    assert grouped(("root=a",), ("root=b",)) == [[0], [1]]


def test_changes_name_the_setting_and_both_values():
    run = composed()
    assert changes(run, composed()) == ""
    assert changes(run, replace(run, delta=7)) == "delta changed from 50 to 7"
    other = composed("cnn.epochs=3", "taxonomy=prashanth", "llm=tiny_random")
    told = changes(run, other)
    assert told.startswith("cnn.epochs changed from 15 to 3, ")
    assert "more changed" in told


def test_what_a_job_without_training_does():
    assert Runs().name(composed("stages=[label,extract]", "part=1", "parts=4")) == "label and extract for toy/rasy, part 1 of 4"
    assert Runs().name(composed("stages=[label]")) == "label for toy/rasy"


FETCH = "stages=[fetch]"
PAPERS = "corpus=semantic_filters", "llm=pythia-12b-deduped", "delta=5"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([(*PAPERS, FETCH, f"taxonomy={name}", f"rho={rho}") for name in ("rasy", "code") for rho in (0.4, 0.5)], [0]),
        ([(*PAPERS, FETCH, f"llm=pythia-{size}-deduped") for size in ("12b", "2.8b", "12b")], [0, 1]),
        ([(*PAPERS, FETCH, f"llm.revision={step}") for step in ("step1", "step2", "step1")], [0, 1]),
        ([(*PAPERS, FETCH, "label.code=fasttext", f"taxonomy={name}") for name in ("rasy", "code", "recite_code")], [0, 1]),
        ([(*PAPERS, "stages=[fetch,label]", f"taxonomy={name}") for name in ("rasy", "code")], [0, 1]),
        ([(*PAPERS, f"seed={seed}") for seed in (0, 1)], [0, 1]),
    ],
    ids=["one model", "sizes", "steps", "a judge of code", "not alone", "trainings"],
)
def test_what_is_fetched_for_many_runs_is_fetched_once(given, kept):
    planned = {(str(number), *words): composed(*words) for number, words in enumerate(given)}
    assert [int(words[0]) for words in without_repeats(planned, Runs())] == kept
