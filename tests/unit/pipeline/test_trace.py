"""`memgrid trace`: the documents of a sequence, from the corpus and from an index, and what is refused before anything heavy."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from hydra import compose, initialize_config_dir
from index_maker import make_index

from memgrid.config.names import run_folder
from memgrid.config.validate import register, typed
from memgrid.corpus.ngrams import count_occurrences
from memgrid.io.digests import write_yaml
from memgrid.io.paths import CONF, TOY
from memgrid.pipeline.__main__ import main


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A run on some of the embedded documents, an index of them, and the duplicates of its sequences by their ids."""
    root = tmp_path_factory.mktemp("traced")
    table = pl.read_parquet(TOY / "documents.parquet").filter(pl.col("copies") > 0)
    table = pl.concat([table.head(40), table.filter(pl.col("copies") > 20).head(4)])
    table.write_parquet(root / "documents.parquet")
    sequences = pl.read_parquet(TOY / "sequences.parquet", columns=["sequence_id", "tokens"]).head(200)
    sequences.write_parquet(root / "sequences.parquet")
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("run", overrides=[f"root={root / 'root'}", "corpus=tables", "corpus.name=few", f"corpus.path={root}"])
    folder = run_folder(typed(config))
    folder.mkdir(parents=True)
    write_yaml(config, folder / "config.yaml")
    documents = [(tokens.to_numpy(), copies) for tokens, copies in zip(table["tokens"], table["copies"], strict=True)]
    counts = count_occurrences(np.array(sequences["tokens"].to_list()), documents)
    return folder, make_index(root / "index", documents), dict(zip(sequences["sequence_id"], counts.tolist(), strict=True))


def test_a_sequence_is_shown_where_it_stands(traced, capsys):
    folder, index, counts = traced
    sequence = max(counts, key=counts.get)
    main([str(folder), str(sequence)])
    ours = capsys.readouterr().out
    assert ours.startswith(f"sequence {sequence} occurs {counts[sequence]} times in ")
    assert "of documents.parquet (document_id " in ours
    main([f"run={folder}", f"sequence={sequence}", f"index={index}", "most=2", "around=3"])
    theirs = capsys.readouterr().out
    assert theirs.startswith(f"sequence {sequence} occurs {counts[sequence]} times in {index}")
    assert "the first 2 places are shown: most=<number> shows more" in theirs
    text = ours.partition("[")[2].partition("]")[0]
    assert len(text) > 60
    assert f"[{text}" in theirs


def test_a_run_that_was_moved_is_traced(traced, tmp_path, capsys):
    folder, _, counts = traced
    moved = shutil.copytree(folder.parents[3], tmp_path / "moved") / folder.relative_to(folder.parents[3])
    main([str(moved), str(min(counts)), "around=0", "most=0"])
    assert capsys.readouterr().out.startswith(f"sequence {min(counts)} occurs ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{run}"], "trace needs sequence=...: such as `memgrid trace "),
        (["{run}", "-1"], "-1 is no whole number from 0 on"),
        (["{run}", "1", "2"], "trace knows only"),
        (["{run}/nothing", "1"], "holds no run: give the folder of one"),
        (["{root}", "1"], "holds no run"),
        (["{run}", "999999999"], "sequence=999999999 is none of corpus 'few'"),
        (["{run}", "{some}", "index={root}"], "is no whole index of infini-gram"),
    ],
)
def test_what_cannot_be_traced_is_told(traced, words, told):
    folder, _, counts = traced
    given = [word.format(run=folder, root=folder.parents[3], some=min(counts)) for word in words]
    assert told in refusal(main, given)
