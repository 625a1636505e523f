"""The typed configuration: what it refuses, and what follows from it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.derive import reference_of, sources, steps_of, taxonomy
from memgrid.config.limits import Limits, keys_of, refuse_outside_limits
from memgrid.config.names import checkpoint_of, step_of
from memgrid.config.schema import FORCIBLE, OWN_STAGES, STAGES, LabelConfig, LLMConfig, RunConfig, WandbConfig
from memgrid.errors import UserError
from memgrid.io.commands import nearest, refusal_of_home
from memgrid.io.paths import embedded_models

LONGEST_NAME = 100  # bytes: the name of a folder is also part of longer names, of which file systems take 255
LONGEST_TITLE = 100  # characters: in figures there is no room for more
LONGEST_ROOT = 3000  # bytes: of a whole path systems take 4096
NAME = r"\w[\w.+-]*"  # of a folder that is called by a setting
WANDB_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")


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
    with suppress(OmegaConfBaseException):
        made = OmegaConf.to_object(config)
        content = asdict(made)  # type: ignore[arg-type]
        if MISSING not in repr(content):  # as nearly always: looking for what is missing takes as long as all the rest
            refuse_texts(content)
            return made
    missing = OmegaConf.missing_keys(config)
    if missing:
        are, them = ("are", "them") if len(missing) > 1 else ("is", "it")
        example = " ".join(f"{key}=..." for key in sorted(missing))
        raise UserError(f"{', '.join(sorted(missing))} {are} not set: give {them} on the command line, such as {example}")
    refuse_texts(OmegaConf.to_container(config, resolve=True))
    return OmegaConf.to_object(config)


def refuse_texts(content: Any, key: str = "") -> None:
    """Raise UserError for a text that no file, table or line of a log can have, in nested settings whose key is `key`."""
    if isinstance(content, dict):
        for name, value in content.items():
            refuse_control(f"a name in {key}" if key else "a name", str(name))
            refuse_texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for value in content:
            refuse_texts(value, key)
    elif isinstance(content, str):
        refuse_control(key, content)
        if home := refusal_of_home(key, content):
            raise UserError(home)


def refuse_control(key: str, text: str) -> None:
    """Raise UserError for a text with a character that no line can show."""
    if not text.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text):
        raise UserError(f"{key} is {text!a}, with characters that no line can show: leave them out")


def unknown_keys(config: DictConfig, schema: Any, prefix: str = "") -> list[str]:
    """Keys that the schema does not have: Hydra lets `+key=value` add them, and nothing would read them."""
    settings = {setting.name: getattr(schema, setting.name) for setting in fields(schema)}
    unknown = [f"{prefix}{key}" for key in map(str, config) if key not in settings]
    for setting in fields(schema):
        if (keys := keys_of(setting)) and isinstance(given := config[setting.name], DictConfig):
            unknown += [f"{prefix}{setting.name}.{key}" for key in map(str, given) if key not in keys]
    for key, value in settings.items():
        if is_dataclass(value):
            unknown += unknown_keys(config[key], value, f"{prefix}{key}.")
    return unknown


def validate(run: RunConfig) -> None:
    """Refuse every value that a later stage could only stumble over, whether or not that stage is asked for now."""
    refuse_stages(run.stages, STAGES)
    refuse_outside_limits(run)
    validate_force(run)
    validate_parts(run)
    validate_pairs(run)
    refuse_places(run.root, {"llm": run.llm.name, "corpus": run.corpus.name, "taxonomy": run.taxonomy.name})
    refuse_tracking(run.tracking.name, run.wandb)
    for title in run.taxonomy.classes:
        if len(str(title)) > LONGEST_TITLE:
            raise UserError(f"class {str(title)[:20]!r} (and so on) has {len(str(title))} characters: a title may have {LONGEST_TITLE}")
    if run.select.non_memorized == "matched" and taxonomy(run).non_memorized is None:
        raise UserError(
            f"select.non_memorized=matched needs a class of sequences that are not memorized, and taxonomy {run.taxonomy.name!r} has none: "
            "use any"
        )
    validate_relatives(run)
    if run.localize.method == "gradcam" and run.cnn.kind == "linear":
        raise UserError("localize.method=gradcam needs a convolution and cnn.kind=linear has none: use gradient or integrated_gradients")
    validate_counts(run.label)
    if run.llm.path is None and run.llm.random is None:
        validate_embedded(run.llm)
    if run.intervene.numbers == []:
        raise UserError("intervene.numbers=[] switches nothing off: give numbers of heads or layers, such as [1,2,4], or null")
    if not run.intervene.percent:
        raise UserError("intervene.percent=[] masks nothing: give shares above 0 and up to 100, such as [1,10]")
    if not sources(run) and "transfer" in run.stages:
        raise UserError("transfer.from=[] names no run whose networks could be tried: give the folder of a finished one, or a list of them")


def validate_relatives(run: RunConfig) -> None:
    """Refuse a taxonomy that compares with other models where none are named, and names that cannot be theirs."""
    name, needs = run.taxonomy.name, taxonomy(run).needs
    for group, key, example in (("reference", "reference", "toy_reference"), ("onset", "steps", "[step300,step2900]")):
        if group in needs and not getattr(run.llm, key):
            raise UserError(f"taxonomy {name!r} reads columns of the group {group}, and llm.{key} names no model: set it, as to {example}")
    reference = reference_of(run.llm)
    if reference is not None and not re.fullmatch(NAME, reference.name):
        raise UserError(
            f"llm.reference={run.llm.reference} ends in a name that no folder of labels can have: use an embedded model, one of conf/llm, "
            "or a folder or a name on the hub of letters, digits and _.+-"
        )
    if reference is not None and reference.path is None and reference.random is None:
        validate_embedded(reference, "llm.reference", str(run.llm.reference))
    own = step_of(checkpoint_of(run.llm.revision, run.llm.path))
    before = -1
    for step in run.llm.steps if "onset" in needs else []:
        number = step_of(step)
        if number is None or number <= before or (own is not None and number >= own):
            raise UserError(
                f"llm.steps=[{','.join(run.llm.steps)}]: {step} must tell a training step, after those before it and before "
                f"the model's own ({'the last one' if own is None else own})"
            )
        before = number
    for checkpoint in steps_of(run.llm) if "onset" in needs else []:
        if checkpoint.path is None and checkpoint.random is None:
            validate_embedded(checkpoint, "llm.steps", f"[{','.join(run.llm.steps)}]")


def validate_embedded(llm: LLMConfig, key: str = "", value: str = "") -> None:
    """Refuse a model without path and weights that is none of the embedded ones, or a training step that it does not have.

    Args:
        key, value: the setting that names it, if it is not the run's own.
    """
    models = embedded_models()
    if llm.name not in models:
        raise UserError(f"llm.name={llm.name} is none of the embedded models, {' and '.join(models)}: use one of these, or set llm.path")
    if llm.revision is not None and llm.revision not in models[llm.name]:
        known = f"it has {', '.join(models[llm.name])}" if models[llm.name] else "it has none"
        subject = f"{key}={value}: {llm.revision}" if key else f"llm.revision={llm.revision}"
        raise UserError(f"{subject} is no training step of the embedded model {llm.name}: {known}, or leave it out")


def validate_counts(label: LabelConfig) -> None:
    """Refuse an index that is not named, or is named and not asked, or that nothing here can read."""
    if label.counts == "infini_gram" and label.index is None:
        raise UserError("label.counts=infini_gram counts in an index: name its folder with label.index=<folder>")
    if label.counts == "exact" and label.index is not None:
        raise UserError(f"label.index={label.index} is not read by label.counts=exact: add label.counts=infini_gram, or leave it out")
    if label.counts == "infini_gram" and find_spec("infini_gram") is None:
        raise UserError("label.counts=infini_gram needs a package that is not installed: pip install 'memgrid[infini-gram]'")


def validate_force(run: RunConfig) -> None:
    """Refuse to do again what is no stage, keeps no result, or is not asked for at all."""
    if isinstance(run.force, bool):
        return
    listed = run.force if isinstance(run.force, list) else [run.force]
    shown = f"force=[{','.join(map(str, listed))}]" if isinstance(run.force, list) else f"force={run.force}"
    if unknown := [str(stage) for stage in listed if stage not in FORCIBLE]:
        raise UserError(
            f"{shown} is neither true nor false, nor names stages: use some of {', '.join(FORCIBLE)}, such as force=[label,train]"
            f"{nearest(unknown[0], FORCIBLE)}"
        )
    if idle := [stage for stage in listed if stage not in run.stages]:
        raise UserError(f"{shown} is to do {idle[0]} again, and stages=[{','.join(run.stages)}] does not do it at all: add it to stages")


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
        near = nearest(unknown[0], every) if unknown else ""
        raise UserError(f"stages=[{','.join(stages)}]: {what}, choose from {', '.join(every)}{near}")


def refuse_part(part: int, parts: int) -> None:
    """Raise UserError for a part that there is not."""
    if not 0 <= part < parts:
        raise UserError(f"part={part} is none of parts={parts}, which are counted from 0 to {parts - 1}: change one of the two")


def refuse_places(root: str, names: dict[str, str]) -> None:
    """Raise UserError for a name that a folder cannot have, by its group, or for a root below which there is no room for names."""
    for group, name in names.items():
        if not re.fullmatch(NAME, name):
            raise UserError(f"{group}.name={name} cannot name a folder: use letters, digits and _.+- and no slash")
        if (length := len(name.encode())) > LONGEST_NAME:
            raise UserError(f"{group}.name={name[:20]}… cannot name a folder: it has {length} bytes, and {LONGEST_NAME} are possible")
    if (length := len(os.fsencode(os.path.abspath(root)))) > LONGEST_ROOT:
        raise UserError(f"root={root[:20]}… is too long: it has {length} bytes, and {LONGEST_ROOT} are possible")


def refuse_tracking(tracker: str, config: WandbConfig) -> None:
    """Raise UserError for what a tracker would refuse when it begins, which is after hours."""
    if tracker == "tensorboard" and not any(map(find_spec, ("tensorboardX", "tensorboard"))):
        raise UserError("tracking=tensorboard needs a package that is not installed: pip install 'memgrid[tensorboard]'")
    if tracker != "wandb" and config.mode == "online":
        raise UserError(f"wandb=online pushes runs to wandb, and tracking={tracker} records none for it: leave one of the two out")
    if tracker != "wandb" or config.mode == "disabled":
        return
    for key, name in (("project", config.project), ("entity", config.entity)):
        if name is not None and not re.fullmatch(r"[^/\\#?%:]{1,128}", name):
            shown = name if len(name) <= 128 else f"{name[:20]}…"
            raise UserError(f"wandb.{key}={shown} is no name for wandb: it must have 1 to 128 characters and none of /\\#?%:")
    typed_mode = os.environ.get("WANDB_MODE", "online")
    if typed_mode not in WANDB_MODES:
        raise UserError(f"WANDB_MODE={typed_mode} in the environment is no mode of wandb: unset it and use wandb=offline, online or off")


def refuse_small(numbers: dict[str, tuple[int, int]]) -> None:
    """Raise UserError for the first key whose number is below its least, which is another setting."""
    for key, (number, least) in numbers.items():
        if number < least:
            raise UserError(Limits(least=least).refusal(key, number))
