"""A made-up run whose sequences a report can open: predictions, attention and Δ in their places."""

import dataclasses
import functools
import json

import numpy as np
import polars as pl
from maps_maker import attributes
from omegaconf import OmegaConf
from runs_maker import Run, finish, rewrite, setting_of
from tokenizers import Tokenizer

from memgrid.io.digests import write_parquet, write_yaml
from memgrid.io.paths import TOY
from memgrid.localize.maps import write_decision_maps
from memgrid.results.folder import RunFolder
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store

LENGTH, K, LAYERS = 8, 4, 2


@functools.cache
def long_words():
    """The ids of some tokens of the embedded tokenizer that are long words, in their order."""
    vocabulary = Tokenizer.from_file(str(TOY / "tokenizer.json")).get_vocab()
    return sorted(place for text, place in vocabulary.items() if text[1:].isalpha() and len(text) > 6)[:40]


def answers(per_class, names, seed):
    """A table of predictions: right three times in four, and each class taken for each other."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    said = np.where(rng.random(len(labels)) < 0.75, labels, rng.integers(0, 3, len(labels)))
    columns = {}
    for name in names:
        weights = rng.random((len(labels), 3)) + 2 * np.eye(3)[said]
        columns[name] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    ids = np.random.default_rng(0).permutation(len(labels)) + 1000
    listed = {name: pl.Series(values.tolist(), dtype=pl.List(pl.Float32)) for name, values in columns.items()}
    return pl.DataFrame({"sequence_id": ids, "label": labels.astype(np.int8), **listed})


def make_maps(ids, layers=LAYERS, length=LENGTH, k=K, llm="toy", fingerprint="toy", corpus="toy"):
    """Attention of some sequences, and the identity of its store: rows of `mean` sum to one, `max` is more."""
    rng = np.random.default_rng(1)
    queries = np.repeat(np.arange(length), np.arange(1, length + 1))
    weights = rng.random((len(ids), len(queries), layers)) ** 6 + 1e-3
    sums = np.stack([weights[:, queries == query].sum(1) for query in range(length)], 1)
    mean = weights / sums[:, queries]
    pools = {"mean": mean.astype(np.float16), "max": np.sqrt(mean).astype(np.float16)}
    decoded = rng.choice(long_words(), (len(ids), length)).astype(np.int32)
    identity = Identity(llm, "", fingerprint, corpus, k, length, layers)
    return identity, Maps(np.asarray(ids, np.int64), decoded, np.ones(len(ids), np.float32), pools)


def make_opened(root, *, per_class=12, attention=True, delta=True, path=None, **choice):
    """Finish a run of three classes with all that the page opens; returns its folder.

    `attention`, `delta`: whether it has such. `path`: of a corpus that is not the embedded one.
    """
    run = Run(root, **choice)
    folder = finish(run)
    config = setting_of(run.settings["taxonomy"]["name"], ())[0]
    config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, name=run.llm))
    write_yaml(OmegaConf.structured(config), RunFolder(folder).config)
    content = json.loads((folder / "metrics.json").read_text())
    if path is not None:
        rewrite(folder, settings={**content["settings"], "corpus": {**content["settings"]["corpus"], "path": path}})
    table = answers(per_class, content["members"], run.seed)
    write_parquet(table, RunFolder(folder).predictions)
    write_parquet(answers(per_class, ["tokens", "together", "linear-mean"], run.seed + 50), RunFolder(folder).baselines)
    if attention:
        identity, maps = make_maps(table["sequence_id"].to_numpy(), llm=run.llm, fingerprint=run.llm)
        Store(root / "attention" / run.llm / "toy", identity).write(maps)
    if delta:
        values = np.tril(np.random.default_rng(2).random((1, 3, LAYERS, LENGTH, LENGTH)) ** 6) / 100
        given = attributes(classes=content["classes"], members=["a"], samples=[5, 6, 7], k=K)
        write_decision_maps(RunFolder(folder).decision_maps("guided"), given, values, [np.arange(2)] * 3)
    return folder
