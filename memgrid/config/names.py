"""What a run is called: the settings that decide its result, the folder they name, and which trainings are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memgrid.config.derive import members, partition, protocol, taxonomy
from memgrid.config.schema import OWN_STAGES, RunConfig
from memgrid.taxonomy import Thresholds

# What may differ between two starts of the same run without changing its result.
NOT_IN_RUN_ID = {"root", "force", "stages", "part", "parts", "wandb", "extract", "data", "localize", "intervene"}
# Settings that came later: a run's settings name them only where they are not the default, so that the names of older runs stay.
CAME_LATER: dict[str, dict[str, Any]] = {
    "corpus": {"copies": None, "bos": False},
    "label": {"code_text": "tokens", "counts": "exact", "index": None},
    "select": {"non_memorized": "any", "decoded": "continuation"},
}
HARDWARE = {"llm": {"device", "device_map", "batch_tokens"}, "trainer": {"threads", "progress"}, "label": {"processes"}}
COUNTING = {"counts", "index"}  # settings of labels that decide nothing without duplicates; the others decide what is code


def settings(run: RunConfig) -> dict[str, Any]:
    """The settings that decide a run's result, as plain containers; δ, ρ and rouge are None where the taxonomy does not depend on them.

    (With a protocol that shares no trainings they are as they are given.)
    """
    plain = asdict(run)
    plain = {key: value for key, value in plain.items() if key not in NOT_IN_RUN_ID}
    for group, keys in HARDWARE.items():
        plain[group] = {key: value for key, value in plain[group].items() if key not in keys}
    for group, defaults in CAME_LATER.items():
        plain[group] = {key: value for key, value in plain[group].items() if key not in defaults or value != defaults[key]}
    plain["cnn"]["members"] = [member.name for member in members(run.cnn, protocol(run))]
    for key in ("kernel_size", "features", "pooling"):
        del plain["cnn"][key]
    needs = {*taxonomy(run).needs, *(("duplicates",) if run.select.non_memorized == "matched" else ())}
    plain["label"] = {key: value for key, value in plain["label"].items() if ("duplicates" if key in COUNTING else "code") in needs}
    if not plain["label"]:
        del plain["label"]
    if protocol(run).shares_trainings:
        plain |= asdict(partition(run).thresholds)
    return plain


def digest_of(content: Any) -> str:
    """Ten hexadecimal digits that tell settings apart."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def run_folder(run: RunConfig) -> Path:
    """`<root>/runs/<llm>/<taxonomy>/delta50-rho0.5-both-seed0-<hash>`: named by the settings, never by the time.

    A threshold that the taxonomy does not depend on is left out: a sweep over it is one run.
    """
    deciding = settings(run)
    name = "-".join(filter(None, (Thresholds.of(deciding).folder(), f"seed{run.seed}", digest_of(deciding))))
    return Path(run.root) / "runs" / run.llm.name / run.taxonomy.name / name


def work_folder(run: RunConfig) -> Path:
    """Where a run's failure is noted: its folder, or, without training, `<root>/jobs/<llm>/<taxonomy>/extract-part3of8-<hash>`."""
    if set(OWN_STAGES) & set(run.stages):
        return run_folder(run)
    part = [f"part{run.part}of{run.parts}"] if run.parts > 1 else []
    return Path(run.root) / "jobs" / run.llm.name / run.taxonomy.name / "-".join([*run.stages, *part, digest_of(settings(run))])


def training_key(run: RunConfig) -> str:
    """Equal for runs whose training would be the same: equal settings, and partitions that are equal whatever their classes are called."""
    deciding = settings(run)
    if protocol(run).shares_trainings:
        deciding["taxonomy"] = partition(run).key
    return digest_of(deciding)


def training_seed(run: RunConfig) -> int:
    """The seed of a training."""
    return int(training_key(run), 16) if protocol(run).seeds_every_setting else run.seed
