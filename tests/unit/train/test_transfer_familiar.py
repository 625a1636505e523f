"""Which samples a source knows from its training: by their tokens, by near-duplicates, and by what the corpus says belongs together."""

import numpy as np
import polars as pl

from memgrid.corpus.corpus import Corpus
from memgrid.train.transfer.familiar import familiar, known_samples

RANDOM = np.random.default_rng(0)
TRAINED = RANDOM.integers(100, 5000, (5, 64))
FRESH = RANDOM.integers(100, 5000, (3, 64))


def test_copies_and_near_duplicates_are_known_and_others_are_not():
    near, far = FRESH[0].copy(), FRESH[1].copy()
    near[:32] = TRAINED[2, 20:52]  # 32 tokens in a row, at another place
    far[:31] = TRAINED[3, :31]
    asked = np.stack([TRAINED[4], near, far, FRESH[2]])
    assert familiar(TRAINED, asked).tolist() == [True, True, False, False]


def test_repetitions_of_one_pattern_are_known_whatever_they_repeat():
    trained, asked = np.tile([[7, 8]], (1, 32)), np.stack([np.tile([11, 12], 32), np.tile([11, 12, 13, 14], 16)])
    assert familiar(trained, asked).tolist() == [True, False]


def test_what_is_near_something_known_that_is_asked_about_is_known():
    first, second = FRESH[0].copy(), FRESH[1].copy()
    first[:32], second[:32] = TRAINED[0, :32], first[32:]
    assert familiar(TRAINED, np.stack([first, second])).tolist() == [True, True]


def corpus(ids, tokens, together=None):
    return Corpus("c", np.array(ids), tokens.astype(np.int32), 32, None, together=together)


def test_ids_lead_to_sequences_of_each_corpus():
    source, here = corpus([5, 6, 7, 8, 9], TRAINED), corpus([1, 2], np.stack([TRAINED[3], FRESH[0]]))
    train, evaluated = pl.DataFrame({"sequence_id": [8]}), pl.DataFrame({"sequence_id": [1, 2]})
    assert known_samples(source, train, here, evaluated).tolist() == [True, False]
    assert known_samples(source, pl.DataFrame({"sequence_id": [7]}), here, evaluated).tolist() == [False, False]


def test_one_corpus_says_what_belongs_together():
    same = corpus([0, 1, 2, 3, 4], TRAINED, together=np.array([3, 3, -1, -1, 0]))
    train, evaluated = pl.DataFrame({"sequence_id": [0]}), pl.DataFrame({"sequence_id": [1, 2]})
    assert known_samples(same, train, same, evaluated).tolist() == [True, False]
