"""The tables of an export and its card: what columns mean, how many rows the hub is told, names of labels, and what CSV makes of lists."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from runs_maker import make_labels
from settings_maker import composed

from memgrid.errors import DamagedError
from memgrid.pipeline.face.export.card import feature, size
from memgrid.pipeline.face.export.columns import LABELS, meaning
from memgrid.pipeline.face.export.files import Tables, flat
from memgrid.pipeline.face.export.tables import Labelled, Part, command_of, group_of, labels_in, with_suffix
from memgrid.taxonomy.columns import GROUP_OF, GROUPS, REFERENCE


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (12345, "10K<n<100K"),
        (999999, "100K<n<1M"),
        (10**6, "1M<n<10M"),
        (10**9, "1B<n<10B"),
        (10**12, "1T<n<10T"),
    ],
)
def test_sizes_are_those_by_which_the_hub_sorts(rows, told):
    assert size(rows) == told


def test_every_column_of_labels_has_a_meaning_and_a_group():
    for column, group in GROUP_OF.items():
        assert meaning("labels", column)
        assert group_of(Path(f"{group}.parquet")) == group
    assert set(LABELS) == {column for column in GROUP_OF if not column.startswith(REFERENCE)}
    assert meaning("labels", "is_code_magika") == f"{LABELS['is_code']} (magika)"
    assert meaning("labels", "min_k_plus_t0_5") == f"{LABELS['min_k_plus']} (t0_5)"
    assert meaning("labels", "reference_min_k") == f"{LABELS['min_k']}, of the reference model"
    with pytest.raises(ValueError, match="empty"):
        meaning("labels", "text")


@pytest.mark.parametrize(
    ("file", "group", "name"),
    [
        ("memorized.parquet", "memorized", "memorized"),
        ("memorized_no_end.parquet", "memorized", "memorized_no_end"),
        ("code-magika.parquet", "code", "is_code_magika"),
        ("degrees-t0.5-k40.parquet", "degrees", "p_extract_t0_5_k40"),
        ("duplicates-0123ab.parquet", "duplicates", "duplicates_0123ab"),
        ("codex.parquet", None, ""),
        ("notes.parquet", None, ""),
    ],
)
def test_what_a_file_was_made_by_is_part_of_the_names_of_its_columns(file, group, name):
    assert group_of(Path(file)) == group
    if group is not None:
        assert with_suffix(GROUPS[group][0], Path(file), group) == name


def test_only_columns_that_labels_have_are_exported(tmp_path):
    """A column of somebody's own may hold text; a file of another corpus says nothing of these sequences."""
    folder = make_labels(tmp_path, rows=20)
    table = pl.read_parquet(folder / "rouge.parquet")
    metadata = {"memgrid": json.dumps({"corpus": "toy", "k": 32, "llm": "toy"})}
    table.reverse().with_columns(text=pl.lit("secret")).write_parquet(folder / "rouge.parquet", metadata=metadata)
    table.select("sequence_id", note=pl.lit("secret")).write_parquet(folder / "notes.parquet", metadata=metadata)
    strange = {"memgrid": json.dumps({"corpus": "another", "k": 32, "llm": "toy"})}
    table.select("sequence_id", is_code=pl.lit(True)).write_parquet(folder / "code-magika.parquet", metadata=strange)
    rows = labels_in(Labelled("toy", "toy", tuple(sorted(folder.glob("*.parquet")))))
    assert set(rows.columns) == {
        "llm",
        "corpus",
        "sequence_id",
        *(name for key in ("memorized", "templates") for name in GROUPS[key][:2]),
    } | {
        "duplicates",
        *GROUPS["rouge"],
    }
    assert_frame_equal(rows.select(table.columns), table)  # by the ids, whatever their order
    assert labels_in(Labelled("toy", "toy", ())) is None
    blob = (folder / "memorized.parquet").read_bytes()
    (folder / "memorized.parquet").write_bytes(blob[:50])
    with pytest.raises(DamagedError, match="remove it and start the run again"):
        labels_in(Labelled("toy", "toy", tuple(sorted(folder.glob("*.parquet")))))


def test_csv_has_a_row_for_every_class_and_place():
    predictions = pl.DataFrame({"run": ["r", "s"], "classes": [["A", "B"], ["A", "C"]], "probabilities": [[0.25, 0.75], [1.0, 0.0]]})
    assert flat("predictions", predictions).rows() == [("r", "A", 0.25), ("r", "B", 0.75), ("s", "A", 1.0), ("s", "C", 0.0)]
    maps = pl.DataFrame({"class": ["A", "B"], "map": [[[[0.5, 0.0], [0.0, 0.25]]], [[[0.0, 0.0], [1.0, 0.0]]]]})
    assert flat("decision_maps", maps).rows() == [("A", 0, 0, 0, 0.5), ("A", 0, 1, 1, 0.25), ("B", 0, 1, 0, 1.0)]
    runs = pl.DataFrame({"run": ["r"], "classes": [["=A", 'B"']], "f1": [[1.5, None]]})
    assert flat("runs", runs).rows() == [("r", '["=A", "B\\""]', "[1.5, null]")]


def test_formulas_are_defused_in_csv(tmp_path):
    tables = Tables(tmp_path, "csv")
    tables.add(Part("samples", "eval", pl.DataFrame({"class": ["=HYPERLINK(1)"], "label": [-1]})))
    tables.finish()
    assert (tmp_path / "samples/eval-00000.csv").read_text() == '"class","label"\n"\'=HYPERLINK(1)",-1\n'


def test_types_are_those_of_the_library():
    kinds = {"a": pl.Int8, "b": pl.Boolean, "c": pl.String, "d": pl.List(pl.Float32), "e": pl.List(pl.List(pl.String)), "f": pl.UInt32}
    told = {name: feature(kind) for name, kind in pl.DataFrame(schema=kinds).schema.items()}
    assert told == {
        "a": {"dtype": "int8"},
        "b": {"dtype": "bool"},
        "c": {"dtype": "string"},
        "d": {"list": "float32"},
        "e": {"list": {"list": "string"}},
        "f": {"dtype": "uint32"},
    }


def test_a_command_names_a_taxonomy_of_ones_own_but_no_folder_of_this_machine():
    run = composed("taxonomy=rasy", "root=/somewhere/of/mine", "seed=3")
    run.taxonomy = replace(run.taxonomy, name="mine")
    told = command_of(SimpleNamespace(settings=run))
    assert shlex.split(told)[:4] == ["python", "-m", "memgrid.run", "--config-dir=<the folder with taxonomy/mine.yaml>"]
    assert "somewhere" not in told
    run.taxonomy = replace(run.taxonomy, name="rasy")
    assert command_of(SimpleNamespace(settings=run)) == "python -m memgrid.run seed=3"
