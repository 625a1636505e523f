"""The tables of an export: of every run its row, samples, predictions and decision maps; labels and texts of their sequences, once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from memgrid.config.names import called
from memgrid.config.overrides import overrides
from memgrid.config.schema import RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import KEY, read_table
from memgrid.io.paths import CONF
from memgrid.pipeline.face.view import RunData
from memgrid.report.sections.labelled import label_file, labels_of, origin_of
from memgrid.results.result import PanelScores, to_json
from memgrid.taxonomy.columns import GROUPS

WHOLE = "train"  # the split of a table that is not divided, as the hub calls it
KINDS = {True: "probe", False: "baseline"}
EXACT = {"delta": pl.Int64, "rho": pl.Float64, "rouge": pl.String, "shuffled_min_f1": pl.Float64, "confidence_min_f1": pl.Float64}


class Part(NamedTuple):
    """Some rows of a table."""

    table: str
    split: str
    rows: pl.DataFrame


@dataclass(frozen=True)
class Labelled:
    """The labels of one language model on one corpus.

    Attributes:
        llm, corpus: as their folder names them. files: where they lie.
    """

    llm: str
    corpus: str
    files: tuple[Path, ...]

    @classmethod
    def of(cls, run: RunData) -> Labelled:
        """Those that a run's sequences have; no files where there are none."""
        settings, origin = run.metrics.settings, run.metrics.origin
        llm, corpus = settings["llm"]["name"], settings["corpus"]["name"]
        folder = labels_of(run.root, llm, corpus, None if origin is None else origin.llm)
        files = tuple(sorted(folder.glob("[!.]*.parquet")))
        return cls(folder.parent.name if files else called(settings["llm"]), corpus, files)


def homes_of(runs: Sequence[RunData]) -> dict[Path, Labelled]:
    """The labels of every run, by its folder."""
    return {run.folder.path: Labelled.of(fresh(run)) for run in runs}


def fresh(run: RunData) -> RunData:
    """The same run, of which nothing is read yet: what is read of thousands would not fit into memory."""
    return RunData(run.folder, run.inputs)


def tables_of(runs: Sequence[RunData], homes: Mapping[Path, Labelled], text: bool) -> Iterator[Part]:
    """All tables, each in parts of one run or model.

    Args:
        homes: as `homes_of`. text: whether tokens and text of sequences are among them.

    Raises:
        UserError: a file is missing or damaged; with `text`, the corpus or the tokenizer is not at hand.
    """
    for run in map(fresh, runs):
        name = name_of(run)
        yield Part("runs", WHOLE, row_of(run, name, homes[run.folder.path]))
        for side, rows in samples_of(run, name):
            yield Part("samples", side, rows)
        for rows in predictions_of(run, name):
            yield Part("predictions", "eval", rows)
        for rows in maps_of(run, name):
            yield Part("decision_maps", WHOLE, rows)
    for home in dict.fromkeys(homes.values()):
        if (labels := labels_in(home)) is not None:
            yield Part("labels", WHOLE, labels)
        if text:
            yield Part("texts", WHOLE, texts_of([run for run in runs if homes[run.folder.path] == home], home))


def name_of(run: RunData) -> str:
    """What a run is called: its path below the runs of its root."""
    return "/".join(run.folder.path.absolute().parts[-3:])


def command_of(run: RunData) -> str:
    """The command that makes the run, wherever it is typed: of folders of this machine it names none that it need not."""
    settings, name = replace(run.settings, root=RunConfig().root), run.settings.taxonomy.name
    shipped = (CONF / "taxonomy" / f"{name}.yaml").is_file()
    own = [] if shipped else [f"--config-dir=<the folder with taxonomy/{name}.yaml>"]
    return shlex.join(["python", "-m", "memgrid.run", *own, *overrides(settings)])


def row_of(run: RunData, name: str, home: Labelled) -> pl.DataFrame:
    """A run as one row."""
    result, settings = run.metrics, run.metrics.settings
    score = result.panel.min_f1
    row = {
        **{"run": name, "llm": home.llm, "corpus": home.corpus, "taxonomy": settings["taxonomy"]["name"]},
        **{key: settings[key] for key in ("delta", "rho", "rouge", "seed")},
        **{"classes": result.classes, "train_per_class": result.samples.train, "eval_per_class": result.samples.eval},
        **{"min_f1": score.mean, "min_f1_std": score.std, "min_f1_low": score.low, "min_f1_high": score.high},
        **{"f1": [of.mean for of in result.panel.f1], "accuracy": result.panel.accuracy.mean},
        **{f"{kind}_min_f1": min_f1(scores) for kind, scores in (("shuffled", result.control), ("confidence", result.confidence))},
        **{"paper_min_f1": result.paper_protocol.min_f1, "eval_loss": result.eval_loss, "memgrid": result.memgrid},
        **{"command": command_of(run), "settings": json.dumps(settings), "metrics": json.dumps(to_json(result))},
    }
    return pl.DataFrame([row], schema_overrides=EXACT)


def min_f1(scores: PanelScores | None) -> float | None:
    """The mean min-F1, or None where there are no scores."""
    return None if scores is None else scores.min_f1.mean


def samples_of(run: RunData, name: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """A run's samples, side by side."""
    table = run.samples
    if "group" not in table.columns:
        table = table.with_columns(group=pl.lit(None, pl.UInt32))
    table = table.select(pl.lit(name).alias("run"), "sequence_id", pl.col("title").alias("class"), "label", "side", "group")
    for (side,), rows in table.group_by(["side"], maintain_order=True):
        yield str(side), rows


def predictions_of(run: RunData, name: str) -> Iterator[pl.DataFrame]:
    """What every classifier of a run says of its eval samples; a run of an older version may have no baselines."""
    titles = pl.Series(run.classes)
    for path in (run.folder.predictions, run.folder.baselines):
        if path == run.folder.baselines and not path.exists():
            continue
        table = run.read(path, path.stem, "force=true")
        for network in table.columns[2:]:
            kind = "network" if path == run.folder.predictions else KINDS[network.startswith("linear-")]
            highest = table[network].list.to_array(len(titles)).to_numpy().argmax(1)
            true, predicted = titles.gather(table["label"].cast(pl.UInt32)), titles.gather(highest)
            rows = {"sequence_id": table["sequence_id"], "class": true, "predicted": predicted, "correct": true == predicted}
            yield pl.DataFrame({**rows, "probabilities": table[network]}).select(
                *(pl.lit(text).alias(key) for key, text in (("run", name), ("network", network), ("kind", kind))),
                *rows,
                pl.lit(titles.implode()).first().alias("classes"),
                "probabilities",
            )


def maps_of(run: RunData, name: str) -> Iterator[pl.DataFrame]:
    """The decision maps of a run, by method."""
    nested = pl.List(pl.List(pl.List(pl.Float32)))
    for method in run.methods:
        found = run.decision_maps(method)
        rows = {"class": found.classes, "samples": found.samples, "k": [found.k] * len(found.classes)}
        yield pl.DataFrame({"run": name, "method": method, **rows, "map": pl.Series(found.maps).cast(nested)})


def labels_in(home: Labelled) -> pl.DataFrame | None:
    """All labels of a model on a corpus, a row per sequence; None where there are none.

    Only columns that labels are known to have: nobody knows what another one says of a text. Files that were made from another corpus or
    model than the first are left out: a run would make them anew.
    """
    if not home.files:
        return None
    first = label_file(home.files[0].parent, "memorized") or home.files[0]
    made_from, all_rows = None, pl.DataFrame()
    for path in (first, *(path for path in home.files if path != first)):
        table, metadata = labels_from(path)
        made_from = made_from or origin_of(metadata)
        if (group := group_of(path)) is None or origin_of(metadata) != made_from:
            continue
        named = {column: with_suffix(column, path, group) for column in GROUPS[group] if column in table.columns}
        table = table.select("sequence_id", *named).rename(named)
        fresh = [column for column in table.columns if column not in all_rows.columns]
        table = table.select("sequence_id", *(column for column in fresh if column != "sequence_id"))
        all_rows = all_rows.join(table, on="sequence_id", how="left", maintain_order="left") if all_rows.width else table
    return all_rows.select(pl.lit(home.llm).alias("llm"), pl.lit(home.corpus).alias("corpus"), pl.all())


def labels_from(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """A file of labels and what it says of itself.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    try:
        return read_table(path)
    except DamagedError as error:
        raise DamagedError(path, error.fault, "remove it and start the run again, which makes it anew") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): set that right") from None


def group_of(path: Path) -> str | None:
    """The group of labels that a file holds: its name begins with it."""
    return next((group for group in GROUPS if re.fullmatch(rf"{group}([-_].*)?", path.stem)), None)


def with_suffix(column: str, path: Path, group: str) -> str:
    """A column's name; with what the file's name adds to that of its group, such as `is_code_magika`."""
    added = re.sub(r"\W+", "_", path.stem.removeprefix(group)).strip("_")
    return f"{column}_{added}" if added else column


def digests_of(homes: Iterable[Labelled]) -> dict[str, str]:
    """The digest that every file of labels has, by llm, corpus and name."""
    paths = [(home, path) for home in dict.fromkeys(homes) for path in home.files]
    return {f"{home.llm}/{home.corpus}/{path.name}": labels_from(path)[1].get(KEY, "none") for home, path in paths}


def texts_of(runs: Sequence[RunData], home: Labelled) -> pl.DataFrame:
    """The tokens and the text of all samples of some runs of one model and corpus, sorted by id."""
    first = fresh(runs[0])
    corpus, tokenizer = first.corpus, first.tokenizer
    ids = np.unique(np.concatenate([fresh(run).samples["sequence_id"].to_numpy() for run in runs]))
    tokens = corpus.tokens[corpus.rows_of(ids)]
    prefix, suffix = (tokenizer.detokenize(part) for part in (tokens[:, : corpus.k], tokens[:, corpus.k :]))
    rows = pl.DataFrame({"sequence_id": ids, "prefix": prefix, "suffix": suffix, "tokens": pl.Series(tokens).cast(pl.List(pl.Int64))})
    return rows.select(pl.lit(home.llm).alias("llm"), pl.lit(home.corpus).alias("corpus"), pl.all())
