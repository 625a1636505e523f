"""Equal partitions: one training, the result under each taxonomy's own names."""

from dataclasses import replace

import polars as pl
from runs_maker import Run, composed, result_of

from memgrid.io.digests import write_parquet
from memgrid.results.folder import RunFolder
from memgrid.results.result import Origin
from memgrid.train.reuse import SharedTraining


def test_a_result_that_cannot_be_read_is_nobodys_training(tmp_path):
    run = composed((f"root={tmp_path}", "taxonomy=recite", "delta=40"))
    first, second = RunFolder(tmp_path / "runs" / "toy" / "recite" / "a"), RunFolder(tmp_path / "runs" / "toy" / "recollect" / "b")
    result, shared = result_of(Run(tmp_path, taxonomy="recite", delta=40)), SharedTraining(run)
    first.write_result(result)
    assert shared.equal_run(second, result.origin) is None  # nobody has noted it
    shared.remember(first)
    assert shared.equal_run(second, result.origin) is None  # its tables are gone
    for path in (first.epochs, first.predictions):
        write_parquet(pl.DataFrame({"a": [1]}), path)
    assert shared.equal_run(second, result.origin) == first
    assert shared.equal_run(first, result.origin) is None
    assert shared.equal_run(second, Origin("another corpus", result.origin.llm)) is None
    assert SharedTraining(replace(run, force=True)).equal_run(second, result.origin) is None
    first.metrics.write_text("{}")
    assert shared.equal_run(second, result.origin) is None
