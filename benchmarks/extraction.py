"""Rows about extraction: its cost and its memory over a bare forward pass, and how both grow with the number of sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import tasks
from benchmarks.measure import Row, Target, children, interleaved, timed_row
from benchmarks.shapes import LENGTH, Settings, model_shaped_like_70m, random_tokens

COST: Target = ("ratio", "<=", 1.05)
MEMORY: Target = ("ratio", "<=", 1.1)
GROWTH = (1, 4, 16)
LARGE_VOCABULARY = 128_000
PASSES = {"bare": "of the body alone", "head": "with the head", "head, large": "with the head"}


def folders(root: Path) -> Iterator[Path]:
    """Folders nobody has written to."""
    number = 0
    while True:
        number += 1
        yield root / str(number)


def cost(settings: Settings) -> list[Row]:
    """CPU per sample over the bare pass."""
    lm = model_shaped_like_70m(settings.quick)
    tokens = random_tokens(8 if settings.quick else lm.batch_size(LENGTH))
    fresh = folders(settings.folder / "cost")
    times = interleaved(
        {
            "bare": lambda: tasks.bare_pass(lm, tokens),
            "head": lambda: tasks.pass_with_head(lm, tokens),
            "pool": lambda: tasks.pool(lm, tokens),
            "score": lambda: tasks.score(lm, tokens),
            "label": lambda: tasks.label(lm, tokens),
            "write": lambda: tasks.pool_and_write(lm, tokens, next(fresh)),
            "reference": lambda: tasks.reference_extraction(lm, tokens, next(fresh)),
        },
        settings.rounds,
    )
    per, how = (
        1000 / len(tokens),
        f"CPU of one batch of {len(tokens)} sequences over the body alone with sdpa, one thread, median of rounds",
    )
    return [
        timed_row(times, "extraction: pooled maps", "pool", "bare", per, "ms/sample", COST, how),
        timed_row(times, "extraction: pooled maps and tokens", "score", "head", per, "ms/sample", COST, f"{how}, but with its head"),
        timed_row(
            times, "labelling: all columns of one pass", "label", "head", per, "ms/sample", COST, f"{how}, but with its head; zlib too"
        ),
        timed_row(times, "extraction: pooled maps, written as a shard", "write", "bare", per, "ms/sample", COST, f"{how}; with fsync"),
        timed_row(times, "reference: extraction, all heads, written", "reference", "bare", per, "ms/sample", None, how),
    ]


def memory(settings: Settings) -> list[Row]:
    """Peak resident memory over the bare pass's, in fresh processes."""
    batch_tokens = 512 if settings.quick else 4096
    batch, shard = batch_tokens // LENGTH, 16 if settings.quick else 512
    samples = dict.fromkeys(("bare", "head", "pool", "label", "reference"), 3 * batch) | {"extract": shard + batch}
    options = {"quick": settings.quick, "batch_tokens": batch_tokens, "shard_samples": shard}
    runs: dict[str, dict[str, object]] = {task: {"task": task, "samples": count, **options} for task, count in samples.items()}
    large = {"vocabulary": 4096 if settings.quick else LARGE_VOCABULARY, "batch_tokens": batch_tokens // 4}
    runs |= {f"{task}, large": {**runs[task], **large} for task in ("head", "label")}
    measured = children("benchmarks.tasks", runs)
    titles = {
        "pool": ("extraction: peak memory of pooling", "batches of pooled maps, thrown away"),
        "label": ("labelling: peak memory of one pass", "all columns of a pass"),
        "label, large": (f"labelling: peak memory of one pass, {LARGE_VOCABULARY:,} tokens", "the same with a larger vocabulary"),
        "extract": (
            "extraction: peak memory of the whole stage",
            f"the extract stage with shards of {shard} samples in the writer's thread, over a pass with the head",
        ),
        "reference": ("reference: peak memory of extraction", "all heads of a batch, written"),
    }
    rows = []
    for work, (name, what) in titles.items():
        base = {"extract": "head", "label": "head", "label, large": "head, large"}.get(work, "bare")
        goal, bare = None if work == "reference" else MEMORY, measured[base]
        how = f"{what}; peak resident memory of a fresh process with the model in it, over that of a pass {PASSES[base]}"
        rows.append(Row(name, measured[work]["peak"], bare["peak"], measured[work]["peak"] / bare["peak"], "MiB", goal, how))
        mine, other = measured[work]["peak"] - measured[work]["loaded"], bare["peak"] - bare["loaded"]
        how = f"{what}; what the peak adds to the loaded model, over what that pass adds (for comparison: no target)"
        rows.append(Row(f"{name}, beyond the model", mine, other, mine / other, "MiB", None, how))
    return rows


def growth(settings: Settings) -> list[Row]:
    """CPU per sample and peak memory of the whole stage for 1, 4 and 16 times as many sequences."""
    least, batch_tokens = (4, 256) if settings.quick else (32, 1024)
    lm, fresh = model_shaped_like_70m(settings.quick, batch_tokens), folders(settings.folder / "growth")
    tokens = random_tokens(GROWTH[-1] * least)
    times = interleaved(
        {str(n): lambda n=n: tasks.extract_whole(lm, tokens[: n * least], next(fresh), least) for n in GROWTH},  # type: ignore[misc]
        2 if settings.quick else 5,
    )
    each = [1000 * median(times[str(n)]) / (n * least) for n in GROWTH]
    options = {"quick": settings.quick, "batch_tokens": batch_tokens, "shard_samples": least}
    runs = {str(n): {"task": "extract", "samples": n * least, **options} for n in GROWTH}
    peaks = [measured["peak"] for measured in children("benchmarks.tasks", runs).values()]
    sizes = ", ".join(str(n * least) for n in GROWTH)
    how = f"the extract stage on {sizes} sequences in shards of {least}"
    linear: Target = ("ratio", "<=", 1.15)
    return [
        Row(
            "growth: CPU per sample, 1× to 16×",
            max(each),
            min(each),
            max(each) / min(each),
            "ms/sample",
            linear,
            f"{how}; dearest, cheapest",
        ),
        Row("growth: peak memory, 1× to 16×", max(peaks), min(peaks), max(peaks) / min(peaks), "MiB", MEMORY, f"{how}; most, least"),
    ]
