"""What is typed to get a row of the ranking again, or what the page lacks: from the configuration that each run keeps."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from memgrid.config.overrides import config_dir, overrides, read_config
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.paths import CONF
from memgrid.report.rows import NamedRun, Row

PROGRAM = "python -m memgrid.run"
THRESHOLDS = ("delta", "rho", "rouge")
OF_A_ROW = ("taxonomy", *THRESHOLDS, "seed")  # a row says these itself
USUAL_TAXONOMY = "rasy"  # of conf/run.yaml
WHERE = ("root", "llm", "corpus")  # all that an experiment leaves to whoever types it


class Commands:
    """Commands for the runs below a root, complete with it; a configuration that several rows share is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, list[str] | None] = {}

    def of_row(self, row: Row) -> str:
        """The command that makes the runs of a row, a line for each part of them that takes one; empty where they keep no settings."""
        lines: dict[tuple[str, ...], dict[str, bool]] = {}  # by the words that they share, models and whether they are typed
        for llm in dict.fromkeys(run.llm for run in row.runs):
            words = next((words for run in row.of(llm) if (words := self.words(run)) is not None), None)
            if words is None:
                continue
            own = [word for word in words if group_of(word) == "llm"]
            rest = [word for word in words if group_of(word) not in ("llm", *OF_A_ROW)]
            # Shipped models are one word, so that one command may sweep over them.
            swept = own in ([], [f"llm={llm}"])
            models = lines.setdefault(tuple(rest if swept else [*own, *rest]), {})
            models |= {llm: bool(own)} if swept else {}
        return "\n".join(self.line(row, models, rest) for rest, models in lines.items())

    def line(self, row: Row, models: Mapping[str, bool], rest: Sequence[str]) -> str:
        """One command: its models, and whether each has to be typed, what is a row's own, and all other words."""
        llm = [f"llm={','.join(models)}"] if any(models.values()) else []
        seeds = sorted({run.settings["seed"] for run in row.runs})
        seed = [] if seeds == [RunConfig().seed] else [f"seed={','.join(map(str, seeds))}"]
        sweep = ["-m"] if len(models) > 1 or len(seeds) > 1 else []
        return typed([*sweep, *own_folder(row.first), *llm, *own_words(row.first), *rest, *seed])

    def words(self, run: NamedRun) -> list[str] | None:
        """What is typed for a run, but for what its row says itself; None where it does not keep its settings."""
        shared = str({key: value for key, value in run.settings.items() if key not in OF_A_ROW})
        if shared not in self.known:
            try:
                self.known[shared] = overrides(read_config(run.folder.config, self.root))
            except UserError:
                self.known[shared] = None
        return self.known[shared]

    def fill(self, run: NamedRun, words: Sequence[str]) -> str:
        """The command that does what `words` say with a run's settings; an experiment brings its own, but for model, corpus and root."""
        given = self.words(run)
        if given is None:
            return typed([*words, f"root={self.root}"])
        if any(word.startswith("experiment=") for word in words):
            return typed([*words, *(word for word in given if group_of(word) in WHERE)])
        seed = [] if run.settings["seed"] == RunConfig().seed else [f"seed={run.settings['seed']}"]
        own = [*own_words(run), *(word for word in given if group_of(word) not in OF_A_ROW), *seed]
        keys = {word.partition("=")[0] for word in words}
        return typed([*own_folder(run), *(word for word in own if word.partition("=")[0] not in keys), *words])


def typed(words: Iterable[str]) -> str:
    """A command of these words, as a shell takes it."""
    return " ".join([PROGRAM, *map(shlex.quote, words)])


def group_of(word: str) -> str:
    """The first part of what a word sets."""
    return word.partition("=")[0].split(".")[0]


def own_words(run: NamedRun) -> list[str]:
    """A run's taxonomy and the thresholds that decide anything there: those of the taxonomy's own, and of the others what is not usual."""
    usual, name = RunConfig(), run.settings["taxonomy"]["name"]
    words = [f"taxonomy={name}"] if name != USUAL_TAXONOMY else []
    words += [f"taxonomy.thresholds.{name}={value:g}" for name, value in run.settings["taxonomy"].get("thresholds", {}).items()]
    decided = {name: getattr(run.divided, name) for name in THRESHOLDS}
    return words + [f"{name}={value}" for name, value in decided.items() if value not in (None, getattr(usual, name))]


def own_folder(run: NamedRun) -> list[str]:
    """Where a taxonomy of the user's own lies; nothing for one that is shipped, and to be filled in where an older run did not note it."""
    name = run.settings["taxonomy"]["name"]
    if (CONF / "taxonomy" / f"{name}.yaml").is_file():
        return []
    return [f"--config-dir={config_dir(run.folder.config) or f'<the folder with taxonomy/{name}.yaml>'}"]
