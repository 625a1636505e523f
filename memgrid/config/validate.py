"""The typed configuration: what it refuses, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from memgrid.config.derive import members, protocol, taxonomy
from memgrid.config.schema import MOST_PARTS, OWN_STAGES, STAGES, RunConfig, TrainerConfig, WandbConfig
from memgrid.errors import UserError


def register() -> None:
    """Make the schema known to Hydra as `run_schema`, so that a wrong key or type is refused when the config is composed."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def typed(config: DictConfig) -> RunConfig:
    """The composed configuration as dataclasses, validated.

    Raises:
        UserError: a value is out of range or unknown; the sentence names it.
    """
    run: RunConfig = known(config, RunConfig(), "run")
    validate(run)
    return run


def known(config: DictConfig, schema: Any, name: str) -> Any:
    """A composed configuration as dataclasses of the schema's type, every key known and set; `name` is that of its file in conf/.

    Raises:
        UserError: a key is unknown, or has no value.
    """
    unknown = unknown_keys(config, schema)
    if unknown:
        raise UserError(f"{', '.join(unknown)} is no setting of memgrid: look for its name in conf/{name}.yaml")
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise UserError(f"{', '.join(sorted(missing))} is not set: give it on the command line, such as {sorted(missing)[0]}=...")
    return OmegaConf.to_object(config)


def unknown_keys(config: DictConfig, schema: Any, prefix: str = "") -> list[str]:
    """Keys that the schema does not have: Hydra lets `+key=value` add them, and nothing would read them."""
    known = {one.name: getattr(schema, one.name) for one in fields(schema)}
    unknown = [f"{prefix}{key}" for key in map(str, config) if key not in known]
    for key, value in known.items():
        if is_dataclass(value):
            unknown += unknown_keys(config[key], value, f"{prefix}{key}.")
    return unknown


def validate(run: RunConfig) -> None:
    """Refuse every value that a later stage could only stumble over."""
    refuse_unknown(
        {
            "rouge": (run.rouge, ("both", "l", "3")),
            "compat": (run.compat, ("none", "paper")),
            "label.code": (run.label.code, ("magika", "fasttext", "usepackage")),
            "corpus.kind": (run.corpus.kind, ("tables", "semantic_filters", "text")),
            "select.non_memorized": (run.select.non_memorized, ("any", "matched")),
            "select.decoded": (run.select.decoded, ("continuation", "suffix")),
            "data.mode": (run.data.mode, ("auto", "resident", "stream")),
            "cnn.kind": (run.cnn.kind, ("conv", "linear")),
            "cnn.scale": (run.cnn.scale, ("raw", "log")),
            "llm.dtype": (run.llm.dtype, ("float32", "bfloat16", "float16")),
            "localize.method": (run.localize.method, ("guided", "gradient", "integrated_gradients", "gradcam")),
            "intervene.queries": (run.intervene.queries, ("suffix", "all")),
        }
    )
    validate_training(run.trainer, run.wandb, run.seed)
    validate_stages(run)
    validate_numbers(run)
    for key, name in (("llm", run.llm.name), ("corpus", run.corpus.name), ("taxonomy", run.taxonomy.name)):
        refuse_name(f"{key}.name", name)
    if run.select.non_memorized == "matched" and taxonomy(run).non_memorized is None:
        raise UserError(
            f"select.non_memorized=matched needs a class of sequences that are not memorized, and taxonomy {run.taxonomy.name!r} has none: "
            "use any"
        )
    taxonomy(run)
    members(run.cnn, protocol(run))
    if run.localize.method == "gradcam" and run.cnn.kind == "linear":
        raise UserError("localize.method=gradcam needs a convolution and cnn.kind=linear has none: use gradient or integrated_gradients")


def validate_stages(run: RunConfig) -> None:
    """Refuse stages that do not exist, and parts that they cannot do."""
    refuse_stages(run.stages, STAGES)
    if not 1 <= run.parts <= MOST_PARTS:
        raise UserError(f"parts={run.parts} is out of range: extraction can be divided into 1 to {MOST_PARTS} parts")
    refuse_part(run.part, run.parts)
    if run.parts > 1 and set(OWN_STAGES) & set(run.stages):
        raise UserError(
            f"parts={run.parts} extracts a part, and stages={run.stages} needs all: use stages=[extract], then the others without parts"
        )


def validate_numbers(run: RunConfig) -> None:
    """Refuse numbers out of range, whether or not the stage that reads them is asked for now."""
    if not 0 < run.rho <= 1:
        raise UserError(f"rho={run.rho} is not a ROUGE threshold: it must be above 0 and at most 1, such as rho=0.5")
    if run.delta < 0:
        raise UserError(f"delta={run.delta} is not a number of duplicates: it must be 0 or more, such as delta=50")
    if not 0 < run.corpus.k < run.corpus.length:
        raise UserError(f"corpus.k={run.corpus.k} leaves no suffix: the prefix must have between 1 and {run.corpus.length - 1} tokens")
    refuse_small(
        {
            "llm.batch_tokens": (run.llm.batch_tokens, run.corpus.length),
            "select.min_train_per_class": (run.select.min_train_per_class, 1),
            "select.min_eval_per_class": (run.select.min_eval_per_class, 1),
            "select.train_per_class": (run.select.train_per_class, run.select.min_train_per_class),
            "select.eval_per_class": (run.select.eval_per_class, run.select.min_eval_per_class),
            "extract.shard_samples": (run.extract.shard_samples, 1),
            "data.workers": (run.data.workers, 0),
            "cnn.epochs": (run.cnn.epochs, 1),
            "cnn.batch_size": (run.cnn.batch_size, 1),
            "control.members": (run.control.members, 0),
            "localize.samples": (run.localize.samples, 1),
            "localize.sanity": (run.localize.sanity, 0),
            "intervene.seeds": (run.intervene.seeds, 1),
            "intervene.heads": (run.intervene.heads, 1),
            "intervene.samples": (run.intervene.samples, 1),
            "intervene.ordinary": (run.intervene.ordinary, 0),
        }
    )
    refuse_outside(
        {
            "cnn.dropout": (run.cnn.dropout, 0, 0.99),
            "cnn.learning_rate": (run.cnn.learning_rate, 1e-9, 10),
            "cnn.weight_decay": (run.cnn.weight_decay, 0, 10),
            "data.memory_gb": (run.data.memory_gb, 0, 1e6),
        }
    )
    validate_doses(run)


def validate_doses(run: RunConfig) -> None:
    """Refuse doses of an intervention that are no shares of positions."""
    if not run.intervene.percent:
        raise UserError("intervene.percent=[] masks nothing: give shares above 0 and up to 100, such as [1,10]")
    layers_at = [] if run.intervene.layers_at is None else [run.intervene.layers_at]
    for key, shares in (("percent", run.intervene.percent), ("layers_at", layers_at)):
        for share in shares:
            if not 0 < share <= 100:
                raise UserError(f"intervene.{key}={share:g} is no share of positions in percent: use numbers above 0 and up to 100")


def validate_training(trainer: TrainerConfig, wandb: WandbConfig, seed: int) -> None:
    """Refuse what no training can be done with, of a run or of an audit; UserError."""
    refuse_unknown(
        {
            "wandb.mode": (wandb.mode, ("offline", "online", "disabled")),
            "trainer.accelerator": (trainer.accelerator, ("cpu", "gpu", "auto")),
            "trainer.precision": (trainer.precision, ("32-true", "bf16-mixed", "16-mixed")),
        }
    )
    refuse_outside({"trainer.threads": (1 if trainer.threads is None else trainer.threads, 1, 4096), "seed": (seed, 0, 2**48)})


def refuse_stages(stages: Sequence[str], known: Sequence[str]) -> None:
    """Raise UserError for stages of which one does not exist, or for none at all."""
    unknown = [stage for stage in stages if stage not in known]
    if unknown or not stages:
        what = f"{unknown[0]} is no stage" if unknown else "nothing would be done"
        raise UserError(f"stages=[{','.join(stages)}]: {what}, choose from {', '.join(known)}")


def refuse_part(part: int, parts: int) -> None:
    """Raise UserError for a part that there is not."""
    if not 0 <= part < parts:
        raise UserError(f"part={part} is none of parts={parts}, which are counted from 0 to {parts - 1}: change one of the two")


def refuse_unknown(words: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    """Raise UserError for the first key whose word is none of those that are allowed."""
    for key, (word, allowed) in words.items():
        if word not in allowed:
            raise UserError(f"{key}={word} is unknown: use {' or '.join(allowed)}")


def refuse_name(key: str, name: str) -> None:
    """Raise UserError for a name that a folder cannot have."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(f"{key}={name} cannot name a folder: use letters, digits and _.+- and no slash")


def refuse_small(numbers: dict[str, tuple[int | None, int]]) -> None:
    """Raise UserError for the first key whose number is below its least; None is no number."""
    for key, (number, least) in numbers.items():
        if number is not None and number < least:
            raise UserError(f"{key}={number} is too small: it must be at least {least}")


def refuse_outside(numbers: dict[str, tuple[float, float, float]]) -> None:
    """Raise UserError for the first key whose number is not from its lowest to its highest."""
    for key, (number, lowest, highest) in numbers.items():
        if not lowest <= number <= highest:
            raise UserError(f"{key}={number} is out of range: it must be from {lowest} to {highest}")
