"""What can be told without a network on attention: the controls that a result on attention has to be read beside.

Everything is fitted on the train side and scored on the eval side, with nothing chosen on eval samples.

| baseline      | sees                                                                                      |
|---------------|-------------------------------------------------------------------------------------------|
| tokens        | how often each token occurs among the decoded ones: a bag, without order                  |
| overlap       | ROUGE-L, ROUGE-3 and the share of suffix tokens that occur in the prefix, of what is decoded |
| confidence    | how sure the model was while decoding: one number                                         |
| likelihood    | the mean log-probability of the prefix: one number, unknown where the corpus brought labels |
| min_k         | Min-K %++ of what is decoded: one number                                                  |
| zlib          | the log-likelihood of what is decoded over its length when compressed: one number         |
| probabilities | the log-probability of each decoded token, in their order, by a small network             |
| together      | all of these: what the tokens and the network say (out of fold on the train side) beside the other numbers |

Min-K %++, the zlib ratio and the log-probabilities are unknown where shards of the store are of a version that kept none.
Linear probes see attention, but only eight numbers a layer: see `memgrid.train.networks.LinearProbe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from memgrid.label.rouge import LONGEST, rouge_scores
from memgrid.metrics.intervals import panel_scores
from memgrid.results.result import PanelScores, ProbeTest
from memgrid.store.shard import Maps
from memgrid.train.networks import TokenNetwork

# The optimum that a fit ends at differs in its last bits with the number of threads: on a cluster it would not be the same as here.
ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
# Strength of regularisation: fixed. Token counts share one unit and are not scaled: rare tokens would become the loudest.
BAG_C, MANY_C, NUMBERS_C = 0.1, 0.1, 1.0
FOLDS, ROUNDS = 5, 1000
EPOCHS, BATCH, RATE = 20, 64, 1e-2  # of the network on tokens
LEAST = -20.0  # nats: the least log-probability that it tells from others
PERMUTATIONS, AT_ONCE = 999, 100
FLOOR = 1e-3  # of a probability whose logarithm is taken
HEARD = ("tokens", "probabilities")  # baselines that see more than a few numbers: others hear what these say

Probabilities = dict[str, np.ndarray | None]
Sides = list[np.ndarray]  # of the train and of the eval side


@dataclass(frozen=True)
class Side:
    """One side's samples, train or eval, as they are known without their attention.

    Attributes:
        decoded: int32 (n, length).
        confidence, prefix_logprob: float32 (n,), NaN where unknown.
        labels: int64 (n,).
        logprob, min_k, zlib: as `memgrid.store.shard.Maps` has them.
    """

    decoded: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    labels: np.ndarray
    logprob: np.ndarray
    min_k: np.ndarray
    zlib: np.ndarray

    @classmethod
    def of(cls, known: Maps, prefix_logprob: np.ndarray, labels: np.ndarray) -> Side:
        """From what a store knows of samples, read with what was measured of their tokens."""
        return cls(known.decoded, known.confidence, prefix_logprob, labels, **known.measured)


@ONE_THREAD
def without_attention(train: Side, evaluate: Side, k: int, classes: int, seed: int) -> Probabilities:
    """Probabilities of the eval samples, float64 (n, classes), by each baseline; None where what it sees is not known."""
    sides, labels = (train, evaluate), train.labels
    vocabulary = 1 + max(int(side.decoded.max()) for side in sides)
    token_by_token = columns([by_token(side.logprob) for side in sides])
    seen: dict[str, Sides | None] = {  # what each baseline sees, in the order of `results.folder.BASELINES`
        "tokens": heard(bag_model(), [bag(side.decoded, vocabulary) for side in sides], labels, seed),
        "overlap": [overlap(side.decoded, k) for side in sides],
        "confidence": columns([side.confidence for side in sides]),
        "likelihood": columns([side.prefix_logprob for side in sides]),
        "min_k": columns([side.min_k for side in sides]),
        "zlib": columns([zlib_ratio(by_token(side.logprob), side.zlib) for side in sides]),
        "probabilities": None if token_by_token is None else heard(TokenClassifier(seed), token_by_token, labels, seed),
    }
    every = [[np.log(np.maximum(side, FLOOR)) if name in HEARD else side for side in both] for name, both in seen.items() if both]
    return {
        **{name: None if both is None else answered(name, both, labels, classes, seed) for name, both in seen.items()},
        "together": numbers([np.hstack(parts) for parts in zip(*every, strict=True)], labels),
    }


def answered(name: str, both: Sides, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Probabilities of the eval samples, float64 (n, classes), from what one baseline sees of both sides."""
    if name in HEARD:
        return both[1]
    return tree(both, labels, classes, seed) if name == "confidence" else numbers(both, labels)


def columns(both: Sides) -> Sides | None:
    """Numbers of the samples of both sides, float64 (n, numbers); None where one is not known."""
    return [side.reshape(len(side), -1).astype(float) for side in both] if all(np.isfinite(side).all() for side in both) else None


def by_token(values: np.ndarray) -> np.ndarray:
    """A number of each token, float64 (n, tokens): without the first token where nothing was read before it."""
    return values[:, int(np.isnan(values[:, 0]).all()) :].astype(float)


def zlib_ratio(logprob: np.ndarray, compressed: np.ndarray) -> np.ndarray:
    """The log-likelihood of a sample per byte of its compressed text, float64 (n,) (Carlini et al. 2021, section 5.2)."""
    return logprob.sum(1) / compressed


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


def heard(model: BaseEstimator, both: Sides, labels: np.ndarray, seed: int) -> Sides:
    """What a model says of both sides, float64 (n, classes): of train samples, fitted on others, where no class has a single one."""
    fitted, left_out = clone(model).fit(both[0], labels), out_of_fold(model, both[0], labels, seed)
    return [fitted.predict_proba(both[0]) if left_out is None else left_out, fitted.predict_proba(both[1])]


class TokenClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A small network on the log-probability and the probability of each token, trained for a fixed number of epochs.

    On one thread and with random numbers of its own: the same to the last bit whatever is computed beside it. Size, rate and epochs were
    chosen on train samples of the embedded model that it was not trained on.

    Args:
        seed: of its weights, its dropout and the order of its batches.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, logprob: np.ndarray, labels: np.ndarray) -> TokenClassifier:
        """Train it on log-probabilities, float (n, tokens)."""
        self.classes_, places = np.unique(labels, return_inverse=True)
        read = channels(logprob)
        self.mean_, self.deviation_ = read.mean((0, 2), keepdim=True), read.std((0, 2), keepdim=True, correction=0).clamp(min=FLOOR)
        inputs, targets = (read - self.mean_) / self.deviation_, torch.from_numpy(places)
        with by_itself(self.seed):
            self.network_ = TokenNetwork(read.shape[1], read.shape[2], len(self.classes_))
            optimizer = torch.optim.AdamW(self.network_.parameters(), RATE)
            for _ in range(EPOCHS):
                for batch in torch.randperm(len(inputs)).split(BATCH):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(self.network_(inputs[batch]), targets[batch]).backward()
                    optimizer.step()
        self.network_.eval()
        return self

    def predict(self, logprob: np.ndarray) -> np.ndarray:
        """The most probable class of each, int (n,)."""
        return self.classes_[self.predict_proba(logprob).argmax(1)]

    def predict_proba(self, logprob: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, float64 (n, classes)."""
        with by_itself(self.seed), torch.inference_mode():
            answers: np.ndarray = self.network_((channels(logprob) - self.mean_) / self.deviation_).double().softmax(1).numpy()
        return answers


def channels(logprob: np.ndarray) -> torch.Tensor:
    """The log-probabilities and the probabilities of tokens, float32 (n, 2, tokens)."""
    read = torch.from_numpy(np.maximum(logprob, LEAST)).float()
    return torch.stack([read, read.exp()], 1)


@contextmanager
def by_itself(seed: int) -> Iterator[None]:
    """One thread, and random numbers that are drawn from nobody else's and leave them as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                seed
            )  # of the CPU alone: devices that are not there take longer to be told than it computes
            yield
    finally:
        torch.set_num_threads(threads)


def bag_model() -> LogisticRegression:
    """Logistic regression on a bag of tokens."""
    return LogisticRegression(C=BAG_C, max_iter=ROUNDS)


def numbers(both: Sides, labels: np.ndarray) -> np.ndarray:
    """Logistic regression on a few numbers, standardised, with their squares: a class may lie between two others.

    Without their products, which are too many for few samples.
    """
    squares = FunctionTransformer(lambda given: np.hstack([given, given**2]))
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
