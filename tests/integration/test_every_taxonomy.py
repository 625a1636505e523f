"""Every taxonomy that is shipped, on what the embedded models say: each class has what a selection asks for."""

from dataclasses import replace

import polars as pl
import pytest
from conftest import NIGHT
from settings_maker import composed

from memgrid.io.paths import CONF, TOY
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.stages import do_stages

FEW = ("select.min_train_per_class=2", "select.min_eval_per_class=1")

PER_KIND = 9  # that is 117 sequences


@pytest.mark.slow
def test_every_taxonomy_selects_on_the_embedded_models(tmp_path):
    """By day on a few sequences of each kind, by night on all, with what a run asks for if nothing is said."""
    words = ()
    if not NIGHT:
        table = pl.read_parquet(TOY / "sequences.parquet").filter(pl.int_range(pl.len()).over("kind") < PER_KIND)
        table.write_parquet(tmp_path / "sequences.parquet")
        (tmp_path / "documents.parquet").symlink_to(TOY / "documents.parquet")
        words = ("corpus=tables", "corpus.name=few", f"corpus.path={tmp_path}", *FEW)
    workspace, seen = Workspace(), set()
    for name in sorted(path.stem for path in (CONF / "taxonomy").glob("*.yaml")):
        run = replace(composed(f"taxonomy={name}", *words), root=str(tmp_path / "root"), stages=["label"])
        do_stages(run, workspace)
        samples = RunContext(run, workspace).samples
        sizes = {row["side"]: row["len"] for row in samples.group_by("side", "title").len().iter_rows(named=True)}
        counted = samples.group_by("title", "side").len()
        assert set(counted["title"]) == set(run.taxonomy.classes), name
        assert counted.height == 2 * len(run.taxonomy.classes)
        assert sizes["train"] >= run.select.min_train_per_class
        assert sizes["eval"] >= run.select.min_eval_per_class
        assert counted.group_by("side").agg(pl.col("len").n_unique())["len"].to_list() == [1, 1]  # all classes alike
        seen.add(name)
    assert {"rasy", "extractable", "near_verbatim", "counterfactual", "onset"} <= seen
