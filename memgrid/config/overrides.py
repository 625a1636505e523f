"""A run's settings as they are typed, and read again from its `config.yaml`: what was composed on the command line, the other way round."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.mistakes import quoted
from memgrid.config.names import HARDWARE, NOT_IN_RUN_ID, run_folder
from memgrid.config.schema import RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_yaml
from memgrid.io.paths import CONF, CONFIG

PLAIN = re.compile(r"[\w./:@%+?|~-]+")  # what Hydra takes for a text without quotes
GROUPS = ("llm", "corpus", "taxonomy", "cnn", "trainer")  # whose files decide a result
CONFIG_DIR = "config_dir"  # in a run's config.yaml, beside its settings: --config-dir, if there was one
COMPOSED = ("run", "audit", "pretrain")  # commands whose words Hydra reads, in its grammar
OWN_FILES = {"llm": "hf", "corpus": "tables", "taxonomy": "rasy"}  # chosen where no file has the name: all keys are typed


def command(run: RunConfig, *words: str) -> str:
    """The command that starts this run, and not another: every setting that decides its result and is not the default, its root, `words`.

    What `words` set takes the place of the run's own. A taxonomy of the user's own is named, with the folder of its file
    (`--config-dir`), which the run's `config.yaml` knows.
    """
    keys = {word.split("=")[0] for word in words}
    typed = [*(word for word in overrides(run) if word.split("=")[0] not in keys), *words]
    if run.taxonomy.name not in {path.stem for path in (CONF / "taxonomy").glob("*.yaml")} and (
        own := config_dir(run_folder(run) / CONFIG)
    ):
        typed += ["--config-dir", own]
    return " ".join(["python -m memgrid.run", *map(shlex.quote, typed)])


def config_dir(file: Path) -> str | None:
    """The folder of the user's own files that was named when a run was started, as its `config.yaml` has it, or None."""
    try:
        noted = read_yaml(file).get(CONFIG_DIR)
    except (OSError, DamagedError, AttributeError):
        return None
    return None if noted is None else str(noted)


def command_of(name: str, root: str | Path, *words: str) -> str:
    """A command on a root, as it is typed: the default root need not be."""
    rooted = [] if str(root) == RunConfig().root else [f"root={text(str(root)) if name in COMPOSED else root}"]
    return " ".join([f"python -m memgrid.{name}", *map(shlex.quote, [*words, *rooted])])


def overrides(run: RunConfig) -> list[str]:
    """What is typed for a run's own settings, in the order of `conf/run.yaml`; nothing for those that are not in its name, but the root."""
    words, default = [], load(CONF / "run.yaml")
    usual = {group: name for entry in default.pop("defaults") if isinstance(entry, DictConfig) for group, name in entry.items()}
    base: Any = OmegaConf.merge(OmegaConf.structured(RunConfig), {key: value for key, value in default.items() if key != "hydra"})
    if run.compat != usual["compat"]:
        words.append(f"compat={run.compat}")
        changed = load(CONF / "compat" / f"{run.compat}.yaml")
        usual |= {str(group).removeprefix("override /"): name for entry in changed.pop("defaults") for group, name in entry.items()}
        base = OmegaConf.merge(base, changed)
    wanted = asdict(run)
    for group in GROUPS:
        chosen = chosen_file(group, wanted[group], usual[group])
        words += [f"{group}={chosen}"] if chosen != usual[group] else []
        path = CONF / group / f"{chosen}.yaml"
        base[group] = OmegaConf.merge(base[group], load(path) if path.is_file() else wanted[group])
    given = OmegaConf.to_container(OmegaConf.structured(run))
    words += differences(flat(OmegaConf.to_container(base, resolve=True)), flat(given))
    return words if run.root == RunConfig().root else [*words, f"root={text(run.root)}"]


def shipped(compat: str, llm: str, corpus: str, experiment: str = "") -> RunConfig:
    """The run that conf/ ships for a model and a corpus, if nothing else is typed but an experiment; what that sweeps over is left alone.

    A model or corpus that conf/ does not have is one of the user's own (`llm=hf`, `corpus=text`): its path is not known.
    """
    chosen, values = dict[str, str](), list[Any]()
    for layer in ("run", f"compat/{compat}", *([f"experiment/{experiment}"] if experiment else [])):
        content = load(CONF / f"{layer}.yaml")
        entries = [entry for entry in content.pop("defaults", []) if isinstance(entry, DictConfig)]
        chosen |= {str(group).removeprefix("override /"): name for entry in entries for group, name in entry.items()}
        content.pop("hydra", None)
        values.append(content)
    files = {group: CONF / group / f"{chosen[group]}.yaml" for group in GROUPS}
    for group, name, own in (("llm", llm, "hf"), ("corpus", corpus, "text")):
        files[group] = file_called(group, name) or CONF / group / f"{own}.yaml"
    merged: Any = OmegaConf.merge(OmegaConf.structured(RunConfig), {group: load(path) for group, path in files.items()}, *values)
    for group, name in (("llm", llm), ("corpus", corpus)):
        merged[group].name = name
        if OmegaConf.is_missing(merged[group], "path"):
            merged[group].path = None
    run: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    return run


def experiments() -> list[str]:
    """The experiments that conf/ ships for runs."""
    known = {*asdict(RunConfig()), "defaults", "hydra"}
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if {*load(path)} <= known)


def file_called(group: str, name: str) -> Path | None:
    """The file of that name in a group of conf/, or None; names in results of others may lead anywhere else."""
    path = CONF / group / f"{name}.yaml"
    return path if path.parent == CONF / group and path.is_file() else None


def load(path: Path) -> DictConfig:
    """A YAML file that holds a mapping."""
    return cast(DictConfig, OmegaConf.load(path))


def chosen_file(group: str, wanted: dict[str, Any], usual: str) -> str:
    """The file of a group of conf/ that leaves least to be typed; a taxonomy that is not in conf/ has a file of the user's own."""
    name = wanted.get("name")
    if group == "taxonomy" or (name and file_called(group, name)):
        return str(name)
    if group in OWN_FILES:
        return wanted["kind"] if group == "corpus" else OWN_FILES[group]
    files = {path.stem: flat(OmegaConf.to_container(load(path))) for path in sorted((CONF / group).glob("*.yaml"))}
    goal, unsaid = flat(wanted), flat(asdict(RunConfig())[group])
    return min(files, key=lambda file: (len(differences(unsaid | files[file], goal, f"{group}.")), file != usual))


def differences(base: dict[str, Any], goal: dict[str, Any], prefix: str = "") -> list[str]:
    """A word for every setting that decides the result and is another than in `base`."""
    skipped = {f"{group}.{key}" for group, keys in HARDWARE.items() for key in keys}
    return [
        f"{key}={text(value)}"
        for key, value in goal.items()
        if (prefix + key).split(".")[0] not in {*NOT_IN_RUN_ID, "compat"}
        and prefix + key not in skipped
        and key.split(".")[0] != "taxonomy"
        and base.get(key) != value
    ]


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key` → value."""
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return leaves


def text(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{text(entry)}' for key, entry in value.items())}}}"
    if not isinstance(value, str) or PLAIN.fullmatch(value):
        return str(value)
    return quoted(value)


def read_config(path: Path, root: Path) -> RunConfig:
    """The settings of a run as its `config.yaml` has them, below the root where it lies now; keys that this version lacks are passed over.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = read_yaml(path)
        run: RunConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), shared(content, RunConfig())))  # type: ignore[assignment]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: start the run again as it was typed, which writes it") from None
    except DamagedError as error:
        raise DamagedError(path, error.fault, "remove it and start the run again as it was typed, which writes it") from None
    except (OSError, OmegaConfBaseException, AttributeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}): remove it and start the run again as it was typed, which writes it") from None
    run.root = str(root)
    return run


def shared(content: DictConfig, schema: Any) -> dict[str, Any]:
    """What a configuration and a schema both have."""
    names = {field.name: getattr(schema, field.name, None) for field in fields(schema)}
    return {
        str(key): shared(value, names[key]) if is_dataclass(names[key]) else value
        for key, value in content.items()
        if key in names and not (is_dataclass(names[key]) and not isinstance(value, DictConfig))
    }
