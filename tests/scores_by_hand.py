"""How probable the tokens of a sequence are, in plain numpy from the definitions."""

import numpy as np


def by_hand(logits, tokens):
    """Log-probabilities of the tokens after the first, Min-K %++ and Min-K %; all of one sequence."""
    every = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[:-1]
    chances = np.exp(every)
    given = every[np.arange(len(every)), tokens[1:]]
    mean = (chances * every).sum(-1)
    deviation = np.sqrt((chances * (every - mean[:, None]) ** 2).sum(-1))
    count = max(1, len(given) // 5)
    return given, np.sort((given - mean) / deviation)[:count].mean(), np.sort(given)[:count].mean()
