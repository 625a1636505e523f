"""Tables of interventions on positions, heads and layers, made up: of how much each way to choose them leaves, all is known."""

import numpy as np
import polars as pl

from memgrid.intervene.statistics import share_interval
from memgrid.intervene.trials import SCHEMA
from memgrid.results.records import HEADS, LAYERS, POSITIONS, RANDOM, WAYS

DOSES = (5.0, 25.0)


def row(name, unit, q, masked, kept, damages, others=None, seed=None, choices=10**6):
    """A row of the table, of samples and texts that are given."""
    low, high = share_interval(np.array(kept, bool))
    shares = {"extractable": float(np.mean(kept)), "others": None if others is None else float(np.mean(others))}
    shares |= {"extractable_low": low, "extractable_high": high}
    lists = {"kept": list(map(bool, kept)), "damages": damages, "others_kept": others}
    counted = {"samples": len(kept), "units": round(q), "choices": choices, "seed": seed, "damage": damages and float(np.mean(damages))}
    return {"class": name, "unit": unit, "q": q, "masked": masked, **shares, **lists, **counted}


def table_of(rows):
    return pl.DataFrame([{key: each.get(key) for key in SCHEMA} for each in rows], schema=SCHEMA)


def some_ways(random, names=("A", "B"), units=(POSITIONS, HEADS, LAYERS), samples=40, texts=30, draws=39, lost=None):
    """A table in which all ways lose a sample as easily and cost as much, unless `lost` says how much more likely a way keeps one."""
    rows = []
    for name in names:
        for unit in units:
            ends = [(0.0, "none", 0.0, 1.0), (100.0, "all", 2.0, 0.0)]
            for q, masked, price, share in ends:
                rows.append(row(name, unit, q, masked, random.random(samples) < share, [price] * texts, [True] * samples))
            for q in DOSES:
                trials = [(way, None) for way in WAYS[unit]] + [(RANDOM, seed) for seed in range(draws)]
                for way, seed in trials:
                    keep = 0.7 - 0.02 * q + (lost or {}).get((name, unit, way), 0.0)
                    kept, others = random.random(samples) < keep, (random.random(samples) < 0.7 - 0.02 * q).tolist()
                    damages = (random.normal(0.02 * q, 0.1, texts)).tolist() if (seed or 0) < 3 else None
                    rows.append(row(name, unit, q, way, kept, damages, others, seed))
    return table_of(rows)
