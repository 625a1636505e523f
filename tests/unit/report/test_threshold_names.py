"""Runs whose taxonomies compare columns: one name each in the report."""

import pytest
from runs_maker import Run, composed, finish

from memgrid.config.names import digest_of, settings
from memgrid.report.read import finished_runs
from memgrid.report.rows import family, named, partition_of, ranking_rows, setting_name, title_with_delta
from memgrid.report.settings.variants import variants
from memgrid.results.result import from_json


def finished(root, taxonomy, *overrides):
    """A finished run, with thresholds and settings as they are typed."""
    run = Run(root, taxonomy=taxonomy)
    run.settings = settings(composed((f"taxonomy={taxonomy}", *overrides)))
    run.divided = partition_of(run.settings)
    run.folder = run.folder.with_name(f"seed0-{digest_of(run.settings)}")
    return finish(run)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("taxonomy=extractable",), "Non-Extractable, By-Sampling, Greedy (p=0.001)"),
        (("taxonomy=extractable", "taxonomy.thresholds.p=0.1"), "Non-Extractable, By-Sampling, Greedy (p=0.1)"),
        (("taxonomy=near_verbatim",), "Non-Memo, Near, Verbatim (edits=5)"),
        (("taxonomy=onset", "taxonomy.thresholds.step=300"), "Never, Early, Late (step=300)"),
        (("taxonomy=counterfactual",), "Non-Memo, Guess, Recall"),
    ],
)
def test_thresholds_follow_the_classes(overrides, name):
    given = settings(composed(overrides))
    assert setting_name(given, partition_of(given)) == name
    assert family(given["taxonomy"]["classes"]) == "other"


def test_a_sweep_over_a_threshold_is_told_apart(tmp_path):
    words = [f"taxonomy.thresholds.p={p}" for p in (0.001, 0.1)]
    folders = {finished(tmp_path, "extractable", word) for word in words}
    assert len(folders) == 2
    runs = named(finished_runs(tmp_path))
    rows = ranking_rows(runs)
    assert sorted(row.setting for row in rows) == [f"Non-Extractable, By-Sampling, Greedy (p={p})" for p in ("0.001", "0.1")]
    assert {run.variant for run in runs} == {""}  # a name tells the threshold: no setting of the sweep is another


def test_other_models_and_other_ways_to_draw_are_never_in_one_row(tmp_path):
    """Beside a run of a taxonomy that reads none of it, which is like all others."""
    finished(tmp_path, "rasy")
    for word in ("llm.reference=toy_reference", "llm.reference=toy@step300"):
        finished(tmp_path, "counterfactual", word)
    for word in ("label.temperature=1", "label.temperature=0.5", "label.top_k=40"):
        finished(tmp_path, "extractable", word)
    runs = named(finished_runs(tmp_path))
    told = {(run.settings["taxonomy"]["name"], run.variant) for run in runs}
    assert len(told) == len(ranking_rows(runs)) == len(runs) == 6
    assert ("rasy", "") in told
    assert {variant for name, variant in told if name == "extractable"} == {"", "label.temperature=0.5", "label.top_k=40"}
    assert sum("llm.reference=toy" in variant for name, variant in told if name == "counterfactual") == 1


def test_steps_differ_within_a_model():
    given = [settings(composed(("taxonomy=onset", f"llm.steps={steps}"))) for steps in ("[step300]", "[step300]", "[step300,step2900]")]
    assert variants(given)[0] == ["llm.steps=[step300]", "llm.steps=[step300]", "llm.steps=[step300,step2900]"]  # conf/ ships others
    assert variants(given[:2])[0] == ["", ""]


@pytest.mark.parametrize(
    ("title", "rules", "told"),
    [
        ("Often", {"column": "near", "at_most": "delta"}, "Often[5]"),
        ("Near", {"column": "near", "at_most": "edits"}, "Near"),
        ("Guess-or-Often", ["guess", {"and": ["memorized", {"column": "duplicates", "above": "delta"}]}], "Guess-or-Often[5]"),
        ("Often", {"not": "recite"}, "Often[5]"),
    ],
)
def test_delta_is_told_where_a_comparison_reads_it(title, rules, told):
    assert title_with_delta(title, rules, 5) == told


def test_results_of_such_runs_are_read_back(tmp_path):
    for taxonomy in ("extractable", "near_verbatim", "counterfactual", "onset"):
        result = from_json((finished(tmp_path, taxonomy) / "metrics.json").read_text())
        assert result.settings["taxonomy"]["name"] == taxonomy
