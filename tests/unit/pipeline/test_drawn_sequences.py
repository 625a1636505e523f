"""Figures travel: text of sequences stands in those of the embedded corpus alone."""

import numpy as np
import pytest
from runs_maker import composed

from memgrid.pipeline.causes import token_names

WORDS = ["and", " the", " city"]


class Words:
    """A tokenizer of three words."""

    def detokenize(self, tokens):
        assert tokens.shape[1] == 1
        return [WORDS[token] for (token,) in tokens]


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        ((), WORDS),
        (("corpus=tables", "corpus.name=mine", "corpus.path=/somewhere"), ["0", "1", "2"]),
        (("corpus=text", "corpus.name=toy", "corpus.path=/somewhere"), ["0", "1", "2"]),
        (("corpus=semantic_filters",), ["0", "1", "2"]),
    ],
)
def test_text_of_others_is_no_label_of_an_axis(overrides, shown):
    assert token_names(composed(overrides), Words(), np.arange(3)) == shown
