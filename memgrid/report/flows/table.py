"""How many memorized sequences are in each class of one taxonomy and of another, for every model and corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.metrics.scores import confusion_matrix
from memgrid.report.flows.sides import side_of
from memgrid.report.rows import NamedRun
from memgrid.report.sections.labelled import Side, by_weights, labels_of, read_features
from memgrid.taxonomy.taxonomy import NO_CLASS

SCHEMA = {
    **{"llm": pl.String, "corpus": pl.String, "left": pl.String, "right": pl.String, "from": pl.String, "to": pl.String},
    **{"count": pl.Int64, "share": pl.Float64},
}


@dataclass(frozen=True)
class Flow:
    """The flow for one model and corpus.

    Attributes:
        llm: as its weights are called. sides: left and right, at their thresholds.
        counts: int (left classes, right classes), sequences in both. lacks: why there is no flow; empty where there is one.
    """

    llm: str
    corpus: str
    sides: tuple[Side, Side]
    counts: np.ndarray
    lacks: str = ""


def every_flow(root: Path, runs: list[NamedRun], pair: tuple[str, str]) -> list[Flow]:
    """The flow between two taxonomies, as `word.asked` reads them, for every model and corpus of the runs, from the labels below a root.

    Raises:
        UserError: one of them is unknown, or does not read a threshold that is given.
    """
    flows = []
    for (llm, name, corpus, fingerprint), own in by_weights(runs).items():
        left, right = (side_of(word, runs, own) for word in pair)
        features, why = read_features(labels_of(root, name, corpus, fingerprint), [left, right])
        nothing = np.zeros((len(left[0].classes), len(right[0].classes)), int)
        flows.append(
            Flow(llm, corpus, (left, right), nothing, why)
            if features is None
            else Flow(llm, corpus, (left, right), counted(features, left, right))
        )
    return flows


def counted(features: pl.DataFrame, left: Side, right: Side) -> np.ndarray:
    """How many memorized sequences are in each class of one taxonomy and of another, int (left classes, right classes).

    Args:
        features: a row per sequence, with `memorized` and what both taxonomies' rules read. Sequences without a class count nowhere.
    """
    memorized = features.filter("memorized")
    many = [len(taxonomy.classes) for taxonomy, _ in (left, right)]
    classes = [taxonomy.classify(memorized, thresholds).astype(int) for taxonomy, thresholds in (left, right)]
    has_both = (classes[0] != NO_CLASS) & (classes[1] != NO_CLASS)
    if not has_both.any():
        return np.zeros(many, int)
    return confusion_matrix(classes[0][has_both], classes[1][has_both], max(many))[: many[0], : many[1]]


def flow_table(flows: Sequence[Flow], pair: tuple[str, str]) -> pl.DataFrame:
    """A record per pair of classes that share a sequence: their number, and their share of the left class in percent."""
    records = []
    for flow in flows:
        titles = [list(taxonomy.classes) for taxonomy, _ in flow.sides]
        for (left, right), count in np.ndenumerate(flow.counts):
            if count:
                share = 100 * count / flow.counts[left].sum()
                records.append((flow.llm, flow.corpus, *pair, titles[0][left], titles[1][right], int(count), share))
    return pl.DataFrame(records, schema=SCHEMA, orient="row")
