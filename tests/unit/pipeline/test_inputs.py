"""What runs share through their workspace, and through nothing else; what their stages ask of it, and in which order."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memgrid.config.names import LABELS, claim_home, owner_of_labels
from memgrid.config.schema import CorpusConfig, LLMConfig, RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.lm.model import ModelIdentity
from memgrid.pipeline.inputs import is_of_another_step, kin_of, open_corpus, without_memorized


@pytest.mark.parametrize(
    ("llm", "splits", "kind", "believed"),
    [
        ({}, ["memories_duped_70m"], "semantic_filters", True),
        ({"revision": "main"}, [], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m"], "semantic_filters", False),
        ({"path": "/ckpts/step1000"}, [], "semantic_filters", False),
        ({"revision": "step1000"}, ["memories_duped_70m_1000"], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m.step1000"], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m_11000"], "semantic_filters", False),
        ({"revision": "step1000"}, ["memories_duped_70m.1000", "pile_duped_70m"], "semantic_filters", False),
        ({"revision": "step1000"}, ["deduped.70m.1000", "deduped.1b"], "memorized_evals", True),
        ({"revision": "step1000"}, ["deduped.70m", "deduped.1b.1000"], "memorized_evals", False),
    ],
)
def test_a_corpus_is_not_believed_about_what_a_step_memorizes(llm, splits, kind, believed):
    given = {"memorized": np.ones(1, bool), "duplicates": np.ones(1, np.int64)}
    corpus = Corpus("c", np.zeros(1, np.int64), np.zeros((1, 64), np.int32), 32, None, given)
    run = RunConfig(llm=LLMConfig(name="m", **{"path": None, **llm}), corpus=CorpusConfig(name="c", path=None, splits=splits, kind=kind))
    assert is_of_another_step(run) is not believed
    assert set(without_memorized(corpus).given) == {"duplicates"}
    opened = open_corpus(run, lambda: None, lambda _: corpus)
    assert ("memorized" in opened.given) is believed


@pytest.mark.parametrize("size", ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"])
def test_the_size_of_a_model_is_no_step(size):
    for step in (0, 1, 2, 4, 8, 12, 16, 70, 160, 410):
        splits = [f"{kind}_deduped_{size}" for kind in ("memories", "pile")]
        run = RunConfig(llm=LLMConfig(name="m", path="p", revision=f"step{step}"), corpus=CorpusConfig(name="c", path=None, splits=splits))
        assert is_of_another_step(run)


def test_paths_that_end_alike_are_compared_and_named_in_full(tmp_path):
    told, weights = {}, {"w": torch.randn(40, 40), "v": torch.randn(40)}
    for number, place in enumerate(("a/final", "b/final", "b/last")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        save_file(weights, folder / "model.safetensors")
        identity = ModelIdentity("m", "", f"print {number}", 1, 9, str(folder))
        claim_home(tmp_path, LABELS, "c", identity, owner_of_labels)
        told[place] = kin_of(LLMConfig(name="m", path=str(folder)), identity, tmp_path, "c")
    assert told["a/final"] == []
    assert told["b/final"] == [f"{tmp_path / 'b/final'} and {tmp_path / 'a/final'} have the same weights: they are one model under 2 names"]
    assert [sentence.partition(" have")[0] for sentence in told["b/last"]] == ["last and final"] * 2
