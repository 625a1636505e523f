"""Rows about the store's size: bytes of a sample, and what many settings of the grid keep together."""

from __future__ import annotations

from itertools import islice, product

import numpy as np
import polars as pl
from omegaconf import OmegaConf

from benchmarks.measure import Row, Target
from benchmarks.shapes import LAYERS_12B, LENGTH, REFERENCE_BYTES_12B, Settings, random_maps, store_of
from memgrid.config.schema import SelectConfig
from memgrid.io.paths import CONF
from memgrid.label.selection.draw import draw
from memgrid.label.selection.select import select
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

TAXONOMIES = ("rasy", "guess_recite", "prashanth", "recite", "guess_or_recollect")
DELTAS, RHOS = (5, 1000), tuple(tenths / 10 for tenths in range(1, 11))


def sample_bytes(settings: Settings, samples: int) -> float:
    """Bytes on disk per sample of a shard at the 12b shape."""
    path = store_of(settings.folder / "bytes", LAYERS_12B).write(random_maps(samples, LAYERS_12B))
    return path.stat().st_size / samples


def population(rows: int) -> tuple[np.ndarray, pl.DataFrame]:
    """Tokens int32 (rows, 64) and labels of made-up sequences: half are memorized, some of them templates, some code."""
    rng = np.random.default_rng(0)
    overlap = rng.beta(1.2, 4, rows)
    features = {
        "memorized": rng.random(rows) < 0.5,
        "duplicates": np.exp(rng.normal(4, 3, rows)).astype(np.int64) + 1,
        "is_repeating": rng.random(rows) < 0.06,
        "is_incrementing": rng.random(rows) < 0.04,
        "rouge_l": overlap,
        "rouge_3": overlap * rng.random(rows),
        "is_code": rng.random(rows) < 0.2,
    }
    return rng.integers(0, 50304, (rows, LENGTH), dtype=np.int32), pl.DataFrame(features)


def grid() -> list[tuple[str, Thresholds]]:
    """A hundred settings, neighbours next to each other: five taxonomies × two δ × ten ρ."""
    return [(name, Thresholds(delta, rho, "both")) for name, delta, rho in product(TAXONOMIES, DELTAS, RHOS)]


def wanted_samples(rows: int, counts: tuple[int, ...], config: SelectConfig) -> dict[int, tuple[int, int]]:
    """For the first so many settings of the grid: distinct samples, and their sum if each setting kept its own."""
    tokens, features = population(rows)
    ids = np.arange(rows)
    drawn, kept, summed = draw(ids, tokens, config, seed=0), np.zeros(rows, bool), 0
    stored = {}
    for number, (name, thresholds) in enumerate(islice(grid(), max(counts)), start=1):
        file = OmegaConf.load(CONF / "taxonomy" / f"{name}.yaml")
        taxonomy = Taxonomy.of(name, OmegaConf.to_container(file)["classes"])  # type: ignore[index, call-overload, arg-type]
        chosen = select(drawn, ids, taxonomy.classify(features, thresholds), list(taxonomy.classes), config)["sequence_id"].to_numpy()
        kept[chosen] = True
        summed += len(chosen)
        if number in counts:
            stored[number] = (int(kept.sum()), summed)
    return stored


def storage(settings: Settings) -> list[Row]:
    """Bytes per sample, and the store's size for 10 and 100 settings."""
    each = sample_bytes(settings, 32 if settings.quick else 512)
    most: Target = ("value", "<=", 0.30)
    how = "size of a real shard at 36 layers over its samples; against 36 × 40 heads of 64 × 64 in float16"
    megabytes = Row("bytes per sample (12b)", each / 1e6, REFERENCE_BYTES_12B / 1e6, each / REFERENCE_BYTES_12B, "MB", most, how)
    rows, per_class = (5000, 20) if settings.quick else (200_000, 400)
    config = SelectConfig(train_per_class=2 * per_class, eval_per_class=per_class, min_train_per_class=1, min_eval_per_class=1)
    stored = wanted_samples(rows, (10, 100), config)
    how = f"distinct samples of that many settings (5 taxonomies × 2 δ × 10 ρ) among {rows:,} labelled rows, at the 12b shape; "
    table = [megabytes]
    for number, (kept, summed) in stored.items():
        name, goal = f"store for {number} settings (12b)", ("ratio", "<=", 1.0)
        table.append(Row(name, kept * each / 1e9, summed * each / 1e9, kept / summed, "GB", goal, f"{how}against each keeping its own"))
    growth = stored[100][0] / stored[10][0]
    how += "how much larger the store gets from 10 settings to 100, against ten times"
    return [*table, Row("store from 10 to 100 settings", growth, 10.0, growth / 10, "times", ("ratio", "<=", 0.5), how)]
