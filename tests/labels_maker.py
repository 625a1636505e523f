"""A model without weights and a corpus of a few rows, for tests of what labels keep and compute."""

from dataclasses import dataclass, field

import numpy as np

from memgrid.corpus.corpus import Corpus
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.scores.scores import Scores


@dataclass(frozen=True)
class Reader(LanguageModel):
    """A model that is sure of the first token of each sequence, and has memorized the even ones; its text is what `texts` say of it."""

    texts: tuple[str, ...] = ()
    read: list = field(default_factory=list)

    def score(self, tokens, k):
        self.read.append(len(tokens))
        numbers = tokens[:, 0].astype(np.float32)
        even, shortest = tokens[:, 0] % 2 == 0, np.full(len(tokens), tokens.shape[1], np.int16)
        return Scores(even, numbers, -numbers, numbers - k, numbers, -8 * numbers, numbers.astype(float), shortest, numbers, numbers)

    def detokenize(self, tokens):
        if not self.texts:
            return ["12345678"] * len(tokens)
        self.read.append(len(tokens))
        return [self.texts[token] for token in tokens[:, 0]]


def reader(*texts, fingerprint="weights"):
    return Reader(None, ModelIdentity("small", "main", fingerprint, 2, 10), None, None, batch_tokens=18, texts=texts)


def few(rows, **more):
    """A corpus of as many sequences of six tokens, the first of which is the number of the row."""
    tokens = np.arange(rows)[:, None] + 10 * np.arange(6)
    return Corpus("few", np.arange(rows) + 100, tokens.astype(np.int32), 3, None, **more)
