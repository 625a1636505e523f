"""The report of a run that was localized and intervened on: it agrees with the files, and names those that are damaged."""

import pytest
from pages import check, words

from memgrid.report.__main__ import PAIR
from memgrid.report.report import gather, write_report
from memgrid.report.sections import baselines
from memgrid.report.sections.causes import causal, where


def test_a_real_runs_report_agrees_with_its_marks(caused, tmp_path):
    report = gather(caused, tmp_path, PAIR)
    write_report(report)
    told = words(check((tmp_path / "index.html").read_text()))
    for control in ("random attention that is alike in layer, distance and strength", "the most attended", "the most decisive of Recall"):
        assert f"Guess (8 samples), its most decisive attention against {control}:" in told
    assert report.tables["interventions"]["samples"].unique().to_list() == [8]


@pytest.mark.parametrize(
    "name",
    ["localize-guided.json", "intervene.json", "predictions.parquet", "baselines.parquet", "intervene.parquet", "localize-guided.h5"],
)
def test_a_file_with_flipped_bits_is_named_on_the_terminal(caused_copy, monkeypatch, capsys, name):
    """Whatever a report leaves out because of damage, whoever starts it is told."""
    for draw in ("doses", "layers", "teaser", "decision_maps", "layer_shares", "randomization"):
        monkeypatch.setattr(f"memgrid.report.sections.causes.draw_{draw}", lambda *_, **__: [])
    monkeypatch.setattr("memgrid.report.facts.Report.drawn", lambda *_, **__: None)
    monkeypatch.setattr("memgrid.report.sections.causes.picture", lambda *_, **__: None)
    (path,) = caused_copy.glob(f"runs/*/*/*/{name}")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 40, len(content), len(content) // 20):
        content[place] ^= 4
    path.write_bytes(content)
    report = gather(caused_copy, caused_copy / "report", PAIR)
    where(report), causal(report), baselines.sections(report)
    assert name in capsys.readouterr().err
