"""Labels that are made up and say how memorized sequences are, of a model and of its reference."""

import json

import numpy as np
import polars as pl

ROWS, LENGTH, K = 60, 64, 32
COPIES = (0, 1, 4, 16, 64, 256)


def made_up(rows=ROWS, length=LENGTH, memorized=20):
    """Columns by group: the first are memorized and half of them overlap with their prefix, some others come out when sampled."""
    at = np.arange(rows)
    known = at < memorized
    p_extract = np.where(known, 0.9 - 0.01 * (at % 20), np.where(at % 5 == 0, 0.01, 1e-40))
    shortest = np.where(known, np.maximum(at % (length // 2), 1), length).astype(np.int16)
    overlap = np.where(at % 2 == 0, 0.9, 0.1)
    degrees = {"p_extract": p_extract, "shortest_prefix": shortest}
    degrees["extraction_strength"] = (1 - shortest / length).astype(np.float32)
    beside = {name: np.zeros(rows, np.float32) for name in ("min_k", "min_k_plus", "zlib_ratio")}
    other = {"memorized": known & (at % 4 == 0), "p_extract": p_extract / 9, "shortest_prefix": np.minimum(shortest * 2, length)}
    return {
        "memorized": {"memorized": known, "confidence": np.full(rows, np.nan, np.float32)},
        "degrees": {**degrees, **beside, "confidence": np.full(rows, 0.5, np.float32)},
        "templates": dict.fromkeys(("is_repeating", "is_incrementing"), np.zeros(rows, bool)),
        "rouge": {"rouge_l": overlap, "rouge_3": overlap},
        "duplicates": {"duplicates": np.array(COPIES)[at % len(COPIES)]},
        "reference-ref": {f"reference_{name}": values for name, values in other.items()} | {"counterfactual": np.zeros(rows, np.float32)},
    }


def labelled(root, columns, folder="toy", corpus="toy", k=K, sampled=None, fingerprint="print"):
    """Write a file of each group; returns their folder."""
    path = root / "labels" / folder / corpus
    path.mkdir(parents=True, exist_ok=True)
    for group, content in columns.items():
        origin = {"corpus": corpus, "k": k, "llm": fingerprint} | (sampled or {} if group.startswith("degrees") else {})
        table = pl.DataFrame({"sequence_id": np.arange(len(next(iter(content.values())))), **content})
        table.write_parquet(path / f"{group}.parquet", metadata={"memgrid": json.dumps(origin)})
    return path


def without(columns, *groups):
    """The columns but for some groups."""
    return {group: content for group, content in columns.items() if group not in groups}
