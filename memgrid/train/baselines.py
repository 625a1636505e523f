"""What can be told without a network on attention: the controls that a result on attention has to be read beside.

Everything is fitted on the train side and scored on the eval side, by scikit-learn, with nothing chosen on eval samples.

| baseline   | sees                                                                                      |
|------------|-------------------------------------------------------------------------------------------|
| tokens     | how often each token occurs among the decoded ones: a bag, without order                  |
| overlap    | ROUGE-L, ROUGE-3 and the share of suffix tokens that occur in the prefix, of what is decoded |
| confidence | how sure the model was while decoding: one number                                         |
| likelihood | the mean log-probability of the prefix: one number, unknown where the corpus brought labels |
| together   | all of these: what the tokens say (out of fold on the train side) beside the other numbers |

Linear probes see attention, but only eight numbers a layer: see `memgrid.train.networks.LinearProbe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from memgrid.label.rouge import LONGEST, rouge_scores
from memgrid.metrics.intervals import panel_scores
from memgrid.results.result import PanelScores, ProbeTest

# The optimum that a fit ends at differs in its last bits with the number of threads: on a cluster it would not be the same as here.
ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
# Strength of regularisation: fixed. Token counts share one unit and are not scaled: rare tokens would become the loudest.
BAG_C, MANY_C, NUMBERS_C = 0.1, 0.1, 1.0
FOLDS, ROUNDS = 5, 1000
PERMUTATIONS, AT_ONCE = 999, 100
FLOOR = 1e-3  # of a probability whose logarithm is taken

Probabilities = dict[str, np.ndarray | None]
Sides = list[np.ndarray]  # of the train and of the eval side


@dataclass(frozen=True)
class Side:
    """One side's samples, train or eval, as they are known without their attention.

    Attributes:
        decoded: int32 (n, length).
        confidence, prefix_logprob: float32 (n,), NaN where unknown.
        labels: int64 (n,).
    """

    decoded: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    labels: np.ndarray


@ONE_THREAD
def without_attention(train: Side, evaluate: Side, k: int, classes: int, seed: int) -> Probabilities:
    """Probabilities of the eval samples, float64 (n, classes), by each baseline; None where what it sees is not known."""
    sides, labels = (train, evaluate), train.labels
    vocabulary = 1 + max(int(side.decoded.max()) for side in sides)
    bags = [bag(side.decoded, vocabulary) for side in sides]
    fitted = bag_model().fit(bags[0], labels)
    tokens, left_out = fitted.predict_proba(bags[1]), out_of_fold(bag_model(), bags[0], labels, seed)
    own = fitted.predict_proba(bags[0]) if left_out is None else left_out
    overlaps = [overlap(side.decoded, k) for side in sides]
    sure = column([side.confidence for side in sides])
    likely = column([side.prefix_logprob for side in sides])
    from_tokens = [np.log(np.maximum(chances, FLOOR)) for chances in (own, tokens)]
    every = [both for both in (overlaps, sure, likely, from_tokens) if both is not None]
    return {
        "tokens": tokens,
        "overlap": numbers(overlaps, labels),
        "confidence": None if sure is None else tree(sure, labels, classes, seed),
        "likelihood": None if likely is None else numbers(likely, labels),
        "together": numbers([np.hstack(parts) for parts in zip(*every, strict=True)], labels),
    }


def column(both: Sides) -> Sides | None:
    """A number per sample of both sides as a column, float64 (n, 1); None where one is not known."""
    return [side[:, None].astype(float) for side in both] if all(np.isfinite(side).all() for side in both) else None


def bag(decoded: np.ndarray, vocabulary: int) -> csr_array:
    """How often each token occurs, sparse float64 (n, vocabulary)."""
    ends = np.arange(0, decoded.size + 1, decoded.shape[1])
    counts = csr_array((np.ones(decoded.size), decoded.ravel().astype(np.int32), ends), shape=(len(decoded), vocabulary))
    counts.sum_duplicates()
    return counts


def overlap(decoded: np.ndarray, k: int) -> np.ndarray:
    """ROUGE-L, ROUGE-3 and the share of suffix tokens that occur in the prefix, float64 (n, 3); for long ones the share alone."""
    prefix, suffix = decoded[:, :k], decoded[:, k:]
    share = np.mean([(prefix == token[:, None]).any(1) for token in suffix.T], axis=0)
    if max(prefix.shape[1], suffix.shape[1]) > LONGEST:
        return share[:, None]
    return np.stack([*rouge_scores(prefix, suffix), share], 1)


def bag_model() -> LogisticRegression:
    """Logistic regression on a bag of tokens."""
    return LogisticRegression(C=BAG_C, max_iter=ROUNDS)


def numbers(both: Sides, labels: np.ndarray) -> np.ndarray:
    """Logistic regression on a few numbers, standardised, with their squares and products: a class may lie between two others."""
    squares = PolynomialFeatures(2, include_bias=False)
    model: Pipeline = make_pipeline(StandardScaler(), squares, StandardScaler(), LogisticRegression(C=NUMBERS_C, max_iter=ROUNDS))
    return model.fit(both[0], labels).predict_proba(both[1])


@ONE_THREAD
def linear(both: Sides, labels: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Logistic regression on many standardised numbers: probabilities of the eval samples, float64 (n, classes), and a loss.

    The loss is its mean cross-entropy on train samples that it was not fitted on, in nats per sample; a guess's where there are too few of
    a class to leave some out. On those that it was fitted on it would be low even where there is nothing to learn.
    """
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=MANY_C, max_iter=ROUNDS))
    answers = out_of_fold(model, both[0], labels, seed)
    loss = float(np.log(labels.max() + 1)) if answers is None else float(log_loss(labels, answers))
    return model.fit(both[0], labels).predict_proba(both[1]), loss


@ONE_THREAD
def permuted(both: Sides, labels: Sides, seed: int) -> ProbeTest:
    """A linear classifier against the same one fitted on permuted train labels, by their accuracies on the true eval labels.

    It is least squares on one-hot labels with a ridge: for all permutations at once it costs little more than for one. It asks whether what
    it learned says anything of the classes. A leak between the sides would look like something said: the split by content is what guards
    that.

    Args:
        both: features of both sides, float (n, features). labels: of both sides, int (n,).
    """
    random, scaler = np.random.default_rng(seed), StandardScaler().fit(both[0])
    train, evaluate = (scaler.transform(side) for side in both)
    classes, reached = int(labels[0].max()) + 1, []
    for start in range(0, 1 + PERMUTATIONS, AT_ONCE):
        orders = [random.permutation(labels[0]) for _ in range(AT_ONCE)]
        if not start:
            orders[0] = labels[0]
        targets = np.eye(classes)[np.stack(orders, 1)].reshape(len(train), -1)
        said = Ridge(alpha=1 / MANY_C).fit(train, targets).predict(evaluate).reshape(len(evaluate), -1, classes).argmax(-1)
        reached += (100 * (said == labels[1][:, None]).mean(0)).tolist()
    mine, others = reached[0], np.array(reached[1:])
    return ProbeTest(mine, float(others.mean()), PERMUTATIONS, float((1 + (others >= mine).sum()) / (1 + PERMUTATIONS)))


def tree(both: Sides, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """A small decision tree, float64 (n, classes); its size is fixed. For one number: a class may lie between two others on its axis."""
    model = DecisionTreeClassifier(max_leaf_nodes=4 * classes, min_samples_leaf=5, random_state=seed)
    return model.fit(both[0], labels).predict_proba(both[1])


def out_of_fold(model: BaseEstimator, features: np.ndarray | csr_array, labels: np.ndarray, seed: int) -> np.ndarray | None:
    """What a model says of train samples that it was not fitted on, float64 (n, classes); None where a class has a single sample."""
    folds = min(FOLDS, int(np.bincount(labels).min()))
    if folds < 2:
        return None
    return cross_val_predict(model, features, labels, cv=StratifiedKFold(folds, shuffle=True, random_state=seed), method="predict_proba")


def scored(
    answers: Probabilities, labels: np.ndarray, classes: int, seed: int, groups: np.ndarray | None = None
) -> dict[str, PanelScores | None]:
    """The scores of each, as those of a panel of one; None stays None. `groups`: as `memgrid.metrics.intervals.panel_scores`."""

    def scores(probabilities: np.ndarray) -> PanelScores:
        return PanelScores.of(panel_scores(labels, probabilities.argmax(-1)[None], classes, seed, groups=groups))

    return {name: None if probabilities is None else scores(probabilities) for name, probabilities in answers.items()}
