"""The typed configuration: what it refuses, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from memgrid.config.derive import taxonomy
from memgrid.config.limits import Limits, refuse_outside_limits
from memgrid.config.schema import OWN_STAGES, STAGES, RunConfig
from memgrid.errors import UserError


def register() -> None:
    """Make the schema known to Hydra as `run_schema`, so that a wrong key or type is refused when the config is composed."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


def typed(config: DictConfig) -> RunConfig:
    """The composed configuration as dataclasses, validated.

    Raises:
        UserError: a value is out of range or unknown; the sentence names it.
    """
    run: RunConfig = as_dataclasses(config, RunConfig(), "run")
    validate(run)
    return run


def as_dataclasses(config: DictConfig, schema: Any, name: str) -> Any:
    """A composed configuration as dataclasses of the schema's type, every key known and set; `name` is that of the command.

    Raises:
        UserError: a key is unknown, or has no value.
    """
    unknown = unknown_keys(config, schema)
    if unknown:
        raise UserError(f"{', '.join(unknown)} is no setting of memgrid: `memgrid {name} --help` lists them")
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise UserError(f"{', '.join(sorted(missing))} is not set: give it on the command line, such as {sorted(missing)[0]}=...")
    return OmegaConf.to_object(config)


def unknown_keys(config: DictConfig, schema: Any, prefix: str = "") -> list[str]:
    """Keys that the schema does not have: Hydra lets `+key=value` add them, and nothing would read them."""
    settings = {setting.name: getattr(schema, setting.name) for setting in fields(schema)}
    unknown = [f"{prefix}{key}" for key in map(str, config) if key not in settings]
    for key, value in settings.items():
        if is_dataclass(value):
            unknown += unknown_keys(config[key], value, f"{prefix}{key}.")
    return unknown


def validate(run: RunConfig) -> None:
    """Refuse every value that a later stage could only stumble over, whether or not that stage is asked for now."""
    refuse_stages(run.stages, STAGES)
    refuse_outside_limits(run)
    validate_parts(run)
    validate_pairs(run)
    for key, name in (("llm", run.llm.name), ("corpus", run.corpus.name), ("taxonomy", run.taxonomy.name)):
        refuse_name(f"{key}.name", name)
    if run.select.non_memorized == "matched" and taxonomy(run).non_memorized is None:
        raise UserError(
            f"select.non_memorized=matched needs a class of sequences that are not memorized, and taxonomy {run.taxonomy.name!r} has none: "
            "use any"
        )
    taxonomy(run)
    if run.localize.method == "gradcam" and run.cnn.kind == "linear":
        raise UserError("localize.method=gradcam needs a convolution and cnn.kind=linear has none: use gradient or integrated_gradients")
    if not run.intervene.percent:
        raise UserError("intervene.percent=[] masks nothing: give shares above 0 and up to 100, such as [1,10]")


def validate_parts(run: RunConfig) -> None:
    """Refuse parts that there are not, or that the stages cannot do."""
    refuse_part(run.part, run.parts)
    if run.parts > 1 and set(OWN_STAGES) & set(run.stages):
        raise UserError(
            f"parts={run.parts} extracts a part, and stages={run.stages} needs all: use stages=[extract], then the others without parts"
        )


def validate_pairs(run: RunConfig) -> None:
    """Refuse numbers that do not fit another number."""
    if not 0 < run.corpus.k < run.corpus.length:
        raise UserError(f"corpus.k={run.corpus.k} leaves no suffix: the prefix must have between 1 and {run.corpus.length - 1} tokens")
    refuse_small(
        {
            "llm.batch_tokens": (run.llm.batch_tokens, run.corpus.length),
            "select.train_per_class": (run.select.train_per_class, run.select.min_train_per_class),
            "select.eval_per_class": (run.select.eval_per_class, run.select.min_eval_per_class),
        }
    )


def refuse_stages(stages: Sequence[str], every: Sequence[str]) -> None:
    """Raise UserError for stages of which one does not exist, or for none at all."""
    unknown = [stage for stage in stages if stage not in every]
    if unknown or not stages:
        what = f"{unknown[0]} is no stage" if unknown else "nothing would be done"
        raise UserError(f"stages=[{','.join(stages)}]: {what}, choose from {', '.join(every)}")


def refuse_part(part: int, parts: int) -> None:
    """Raise UserError for a part that there is not."""
    if not 0 <= part < parts:
        raise UserError(f"part={part} is none of parts={parts}, which are counted from 0 to {parts - 1}: change one of the two")


def refuse_name(key: str, name: str) -> None:
    """Raise UserError for a name that a folder cannot have."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(f"{key}={name} cannot name a folder: use letters, digits and _.+- and no slash")


def refuse_small(numbers: dict[str, tuple[int, int]]) -> None:
    """Raise UserError for the first key whose number is below its least, which is another setting."""
    for key, (number, least) in numbers.items():
        if number < least:
            raise UserError(Limits(least=least).refusal(key, number))
