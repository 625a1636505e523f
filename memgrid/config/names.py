"""What a run is called, and whose labels and attention a folder holds.

A run: the settings that decide its result, the folder they name, and which trainings are the same. A model: `<root>/<kind>/<llm>/<corpus>`
(kind: labels or attention) belongs to one fingerprint, which its `model.json` names. The first weights of a name get `<llm>` itself, every
other checkpoint of that name `<llm>@<revision>`, or `<llm>@<fingerprint>` where that is taken too. No name of a model has an @.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from memgrid.config.derive import members, partition, protocol, taxonomy
from memgrid.config.schema import OWN_STAGES, RunConfig
from memgrid.errors import DamagedError
from memgrid.io.digests import parquet_metadata, read_json, write_json
from memgrid.io.locks import lock
from memgrid.taxonomy.thresholds import Thresholds

LABELS, ATTENTION = "labels", "attention"  # the kinds of folders that belong to a model, below a root of runs
MODEL = "model.json"  # in such a folder: whose it is
LONGEST_TAG = 40  # characters: a commit of the hub has as many
# A number of steps in the name of a checkpoint, such as step1000, checkpoint-500, iter_0005000 or step10k.
STEP = re.compile(r"(?:step|checkpoint|ckpt|iter(?:ation)?|epoch)s?[-_= ]?(\d+)([kKmM])?(?![a-zA-Z0-9])|(?<!\S)(\d{1,12})(?!\S)")

# What may differ between two starts of the same run without changing its result.
NOT_IN_RUN_ID = {"root", "force", "stages", "part", "parts", "tracking", "wandb", "extract", "data", "localize", "intervene", "transfer"}
# Settings that came later: a run's settings name them only where they are not the default, so that the names of older runs stay.
CAME_LATER: dict[str, dict[str, Any]] = {
    "corpus": {"copies": None, "bos": False},
    "label": {"code_text": "tokens", "counts": "exact", "index": None, "temperature": 1.0, "top_k": None},
    "select": {"non_memorized": "any", "decoded": "continuation"},
    "cnn": {"schedule": "constant"},
    "taxonomy": {"thresholds": {}},
}
# How a result is computed, and how often it is looked at on the way.
HARDWARE = {
    "llm": {"device", "device_map", "batch_tokens"},
    "cnn": {"evaluate_every"},
    "trainer": {"threads", "progress"},
    "label": {"processes"},
}
# Settings of labels and of the model that decide nothing where no rule reads these groups of labels; the others decide what is code.
READ_BY = {"counts": "duplicates", "index": "duplicates", "temperature": "p_extract", "top_k": "p_extract"}
OTHER_MODELS = {"reference": "reference", "steps": "onset"}


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
    if "thresholds" in plain["taxonomy"]:  # 5 and 5.0 are one threshold
        plain["taxonomy"]["thresholds"] = {name: float(value) for name, value in plain["taxonomy"]["thresholds"].items()}
    plain["cnn"]["members"] = [member.name for member in members(run.cnn, protocol(run))]
    for key in ("kernel_size", "features", "pooling"):
        del plain["cnn"][key]
    needs = read_by(run)
    plain["label"] = {key: value for key, value in plain["label"].items() if READ_BY.get(key, "code") in needs}
    plain["llm"] = {key: value for key, value in plain["llm"].items() if key not in OTHER_MODELS or OTHER_MODELS[key] in needs}
    if not plain["label"]:
        del plain["label"]
    if protocol(run).shares_trainings:
        plain |= asdict(partition(run).thresholds)
    return plain


def read_by(run: RunConfig) -> set[str]:
    """The groups of labels that a run reads besides what is memorized; and `p_extract`, where a rule reads how probable a suffix is."""
    rules = taxonomy(run)
    drawn = {"p_extract"} if any(column.endswith("p_extract") for column in rules.compared) else set[str]()
    matched = {"duplicates"} if run.select.non_memorized == "matched" else set[str]()
    return {*rules.needs, *drawn, *matched}


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


# Models and their checkpoints.


class Weights(Protocol):
    """What tells one set of weights from others; `memgrid.lm.model.ModelIdentity` is one."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def revision(self) -> str:
        """Of the hub; empty without one."""

    @property
    def fingerprint(self) -> str:
        """Of the weights and of how they are used."""

    @property
    def checkpoint(self) -> str:
        """As `checkpoint_of`."""


def checkpoint_of(revision: str | None, path: str | None) -> str:
    """What tells a checkpoint from others of its name: the revision, or else the path; empty for the embedded model and random weights."""
    return revision or path or ""


def short_name(checkpoint: str) -> str:
    """A checkpoint for people and for folders: the revision, or the last part of the path; a commit by its first ten digits."""
    last = re.sub(r"[^\w.+-]", "_", checkpoint.rstrip("/").rpartition("/")[2])
    return last[:10] if re.fullmatch(r"[0-9a-f]{40}", last) else last[:LONGEST_TAG]


def model_name(llm: str, checkpoint: str) -> str:
    """Such as `pythia-2.8b@step1000`."""
    return f"{llm}@{short_name(checkpoint)}" if checkpoint else llm


def called(llm: Mapping[str, Any]) -> str:
    """What the model of a run is called, by its settings: with its checkpoint, where a revision or a path with a step names one."""
    revision, path = llm.get("revision"), llm.get("path")
    return model_name(llm["name"], revision or (path if path and step_of(path) is not None else ""))


def step_of(checkpoint: str) -> int | None:
    """The training step that the name of a checkpoint tells, by its last word that tells one; None where it tells none."""
    found = [match.groups() for part in checkpoint.rstrip("/").split("/") for match in STEP.finditer(part)]
    if not found or checkpoint.startswith("refs/"):  # the hub numbers its pull requests
        return None
    number, unit, alone = found[-1]
    return int(number or alone) * {"k": 1_000, "m": 1_000_000}.get((unit or "").lower(), 1)


@dataclass(frozen=True)
class Owner:
    """Whose labels or attention a folder holds: the content of its `model.json`.

    Attributes:
        fingerprint: of the weights. revision: what the shards of the folder say.
        used_as: the checkpoints under which these weights were used (as `checkpoint_of`), the first one first. Several: equal weights.
    """

    fingerprint: str
    revision: str = ""
    used_as: tuple[str, ...] = ()


Earlier = Callable[[Path], Owner | None]  # what a folder of an earlier version, which has no model.json, says by its other files


def owner_of(folder: Path, earlier: Earlier) -> Owner | None:
    """Whose a folder is; None: nobody's, or there is none."""
    try:
        plain = read_json(folder / MODEL)
        return Owner(str(plain["fingerprint"]), str(plain["revision"]), tuple(map(str, plain["used_as"])))
    except (FileNotFoundError, NotADirectoryError, DamagedError, KeyError, TypeError):
        return earlier(folder)


def owner_of_labels(folder: Path) -> Owner | None:
    """Whose the labels of an earlier version are: those that the model made come first, for the others may be older."""
    files = [folder / "memorized.parquet", *sorted(folder.glob(".memorized/*.parquet")), *sorted(folder.glob("*.parquet"))]
    for path in files:
        metadata = parquet_metadata(path) or {}
        try:
            return Owner(str(json.loads(metadata["memgrid"])["llm"]))
        except (KeyError, TypeError, ValueError):
            continue
    return None


def homes(above: Path, llm: str, corpus: str, earlier: Earlier) -> Iterable[tuple[Path, Owner]]:
    """Every folder of a model's name, its checkpoints among them, with its owner; sorted, the plain name first.

    Args:
        above: `<root>/<kind>`. corpus: what the folders are called below that of the model.
    """
    names = sorted(entry.name for entry in os.scandir(above) if entry.name.startswith(f"{llm}@")) if above.is_dir() else []
    for folder in (above / name / corpus for name in (llm, *names)):
        if (owner := owner_of(folder, earlier)) is not None:
            yield folder, owner


def find_home(above: Path, llm: str, corpus: str, fingerprint: str, earlier: Earlier) -> tuple[Path, Owner] | None:
    """Where the labels or the attention of some weights lie, or None. Nothing is written."""
    return next((home for home in homes(above, llm, corpus, earlier) if home[1].fingerprint == fingerprint), None)


def claim_home(root: Path, kind: str, corpus: str, llm: Weights, earlier: Earlier) -> tuple[Path, Owner]:
    """Where the labels or the attention of some weights lie, or are to lie; from now on the folder is theirs.

    Processes that start at once with different weights take their turn, and get different folders.
    """
    above = root / kind
    home = find_home(above, llm.name, corpus, llm.fingerprint, earlier)
    if home is not None and llm.checkpoint in home[1].used_as:
        return home
    above.mkdir(parents=True, exist_ok=True)
    with lock(above / ".models.lock"):
        folder, owner = find_home(above, llm.name, corpus, llm.fingerprint, earlier) or (
            unclaimed(root, kind, corpus, llm, earlier),
            Owner(llm.fingerprint, llm.revision),
        )
        if llm.checkpoint not in owner.used_as:
            owner = replace(owner, used_as=(*owner.used_as, llm.checkpoint))
        write_json({"llm": llm.name, **asdict(owner)}, folder / MODEL)
    return folder, owner


def tensors_file(root: Path, fingerprint: str) -> Path:
    """What is known of single tensors of some weights: their digests, and what they share with other checkpoints of the name, in words."""
    return root / "models" / f"{fingerprint}.json"


def unclaimed(root: Path, kind: str, corpus: str, llm: Weights, earlier: Earlier) -> Path:
    """The first folder that is nobody's: named as the labels of these weights, else `<llm>`, `<llm>@<revision>`, `<llm>@<fingerprint>`."""
    beside = find_home(root / LABELS, llm.name, corpus.partition("@")[0], llm.fingerprint, owner_of_labels) if kind != LABELS else None
    names = [beside[0].parent.name] if beside else []
    names += [llm.name, model_name(llm.name, llm.checkpoint), f"{llm.name}@{llm.fingerprint}"]
    folders = [root / kind / name / corpus for name in names]
    return next((folder for folder in folders if owner_of(folder, earlier) is None), folders[-1])
