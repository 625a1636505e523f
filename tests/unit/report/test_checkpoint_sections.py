"""The report's section on checkpoints, from labels and results that are made up."""

import json

import numpy as np
import polars as pl
import pytest
from painting import left_out
from runs_maker import Run, finish, rewrite
from test_baseline_sections import report_of

from memgrid.config.names import tensors_file
from memgrid.io.digests import write_json
from memgrid.report.figures.curves import step_places
from memgrid.report.figures.flow import MOST_COLUMNS, shown_steps
from memgrid.report.read import read_runs
from memgrid.report.report import write_report
from memgrid.report.rows import named
from memgrid.report.sections.checkpoints import curve_name, section
from memgrid.report.sections.labelled import labels_of, read_features
from memgrid.report.settings.variants import variants
from memgrid.report.shell.render import render

ROWS = 30
MODEL = ("llm=hf", "llm.name=m", "llm.path=hub/m")


@pytest.fixture(autouse=True)
def unseen():
    """No drawing is looked at here."""
    with left_out(True):
        yield


def labelled(root, folder, memorized, used_as=None, rows=ROWS, corpus="toy", fingerprint=None):
    """Labels of rasy's groups: the first `memorized` sequences are memorized, every third one overlaps with its prefix."""
    path = root / "labels" / folder / corpus
    path.mkdir(parents=True)
    fingerprint = fingerprint or f"print of {folder}"
    overlap = np.where(np.arange(rows) % 3 == 0, 0.9, 0.1)
    columns = {
        "memorized": {"memorized": np.arange(rows) < memorized},
        "templates": dict.fromkeys(("is_repeating", "is_incrementing"), np.zeros(rows, bool)),
        "rouge": {"rouge_l": overlap, "rouge_3": overlap},
    }
    for group, content in columns.items():
        table = pl.DataFrame({"sequence_id": np.arange(rows), **content})
        table.write_parquet(path / f"{group}.parquet", metadata={"memgrid": json.dumps({"corpus": corpus, "k": 32, "llm": fingerprint})})
    if used_as is not None:
        write_json({"llm": folder.partition("@")[0], "fingerprint": fingerprint, "revision": "", "used_as": used_as}, path / "model.json")
    return fingerprint


def trained(root, step, fingerprint):
    """A finished run of one revision."""
    run = Run(root, llm="m", overrides=(*MODEL, f"llm.revision=step{step}"))
    return rewrite(finish(run), origin={"corpus": "toy", "llm": fingerprint})


def test_without_steps_the_section_says_what_makes_them(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, "toy", 3, [""])
    made = section(report_of(tmp_path))
    assert made.parts == []
    assert made.fill == ("-m", "experiment=checkpoints")
    assert "llm.revision=step1000,step2000" in made.text[0]


def test_steps_are_put_in_order_and_told(tmp_path):
    """In a folder of an earlier version, only a finished run knows which step it is."""
    finish(Run(tmp_path))
    first = labelled(tmp_path, "m", 6)
    for step, many in ((1000, 20), (200, 4), (0, 0)):
        print_ = labelled(tmp_path, f"m@step{step}", many, [f"step{step}"])
        trained(tmp_path, step, print_)
    trained(tmp_path, 50, first)
    report = report_of(tmp_path)
    write_report(report)
    rows = report.tables["steps"].filter(pl.col("class") == "all")
    assert rows["step"].to_list() == [0, 50, 200, 1000]
    assert rows["memorized"].to_list() == [0, 6, 4, 20]
    assert rows["forgotten"].to_list() == [None, 0, 2, 0]
    onset = {row["class"]: row for row in report.tables["onset"].iter_rows(named=True)}
    assert (onset["all"]["interrupted"], onset["Guess"]["last"], onset["Recall"]["last"]) == (2, 7, 13)
    assert report.tables["steps-min-f1"]["step"].to_list() == [0, 50, 200, 1000]
    made = section(report)
    page = render("t", "s", [made], "f")
    assert "4 steps from 0 to 1,000. Of 30 sequences, 20 are memorized at some step that was run, 20 at the last" in page
    assert "Known are only the steps that were run" in page
    for name in ("onset", "step-flow", "steps-min-f1"):
        assert (tmp_path / "report" / "figures" / f"{name}.png").is_file()
        assert f"figures/{name}.pdf" in page
    assert (tmp_path / "report" / "steps.csv").is_file()


def test_checkpoints_that_are_not_what_they_say_count_once_and_are_named(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, "m", 9, ["step50", "step300"])  # a branch that serves the final weights
    labelled(tmp_path, "m@step100", 3, ["step100"])
    labelled(tmp_path, "m@float", 3, ["step100"])  # the same step in another precision
    labelled(tmp_path, "m@step10", 1, ["step10"])
    labelled(tmp_path, "m@step20", 1, ["step20"])  # the same tensors in other files
    labelled(tmp_path, "m@main", 9, ["main"])
    labelled(tmp_path, "m@step30", 1, ["step30"], rows=7)
    (tmp_path / "labels" / "m@step40" / "toy").mkdir(parents=True)
    for folder, kin in (("m@step10", []), ("m@step20", ["step20 and step300 share 3 of 4 tensors: a weight file may belong to the other"])):
        write_json({"tensors": {"w": "1"}, "kin": kin}, tensors_file(tmp_path, f"print of {folder}"))
    report = report_of(tmp_path)
    assert report.tables["steps"].filter(pl.col("class") == "all")["checkpoint"].to_list() == ["step20", "step100", "step300"]
    told = " ".join(section(report).text)
    for sentence in (
        "step50 has the same weights as step300, and counts once, as step300.",
        "is the same step (other weights, or another precision).",
        "step10 is left out: it has the same weights as step20, tensor by tensor.",
        "main is left out: its name tells no step.",
        "step30 is left out: its labels are of other sequences than those of step300.",
        "step20 and step300 share 3 of 4 tensors",
        "No run of these checkpoints is finished",
    ):
        assert sentence in told


def test_two_models_have_figures_of_their_own_and_many_steps_fit(tmp_path):
    finish(Run(tmp_path))
    for model in ("m", "n"):
        for step in range(MOST_COLUMNS + 3):
            labelled(tmp_path, f"{model}@step{step}", 2 * step, [f"step{step}"])
    report = report_of(tmp_path)
    made = section(report)
    assert len([part for part in made.parts if getattr(part, "kind", "") == "figure"]) == 4
    assert f"{MOST_COLUMNS} of the {MOST_COLUMNS + 3} steps are shown" in render("t", "s", [made], "f")


def test_nothing_memorized_at_any_step_is_no_error(tmp_path):
    finish(Run(tmp_path))
    for step in (1, 2):
        labelled(tmp_path, f"m@step{step}", 0, [f"step{step}"])
    report = report_of(tmp_path)
    write_report(report)
    assert "0 are memorized at some step" in " ".join(section(report).text)


def test_checkpoints_of_one_model_are_rows_of_their_own_and_all_are_named(tmp_path):
    for step in (1, 2):
        trained(tmp_path, step, f"f{step}")
    finish(Run(tmp_path, llm="toy"))
    runs = named(read_runs(tmp_path)[0])
    assert sorted((run.variant for run in runs), key=lambda text: text or "z") == ["llm.revision=step1", "llm.revision=step2", ""]
    assert {curve_name(run) for run in runs} == {runs[0].setting}


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (("/c/step1", "/c/step2"), ["llm.path=…/step1", "llm.path=…/step2"]),
        (("/c/step1/hf", "/c/step2/hf"), ["llm.path=/c/step1/hf", "llm.path=/c/step2/hf"]),
        (("hub/m", "hub/m"), ["", ""]),
    ],
)
def test_paths_are_named_by_what_tells_them_apart(paths, shown):
    settings = [Run("r", llm="m", overrides=("llm=hf", "llm.name=m", f"llm.path={path}")).settings for path in paths]
    assert variants(settings)[0] == shown


@pytest.mark.parametrize("steps", [(0, 1, 10, 100), (5, 6, 7), (0, 7), (0, 0), (1, 10**6), (3,)])
def test_steps_have_places_in_their_order(steps):
    places = step_places(steps)
    assert np.isfinite(places).all()
    assert (np.diff(places) >= 0).all()
    assert shown_steps(len(steps))[0] == 0
    assert shown_steps(len(steps))[-1] == len(steps) - 1


def test_labels_of_other_weights_are_not_taken_for_a_runs_own(tmp_path):
    own = labelled(tmp_path, "m", 3, ["step1"])
    plain = tmp_path / "labels" / "m" / "toy"
    assert labels_of(tmp_path, "m", "toy", own) == labels_of(tmp_path, "m", "toy", None) == plain
    elsewhere = labels_of(tmp_path, "m", "toy", "print of others")
    assert "has no labels memorized" in read_features(elsewhere, [])[1]
    second = labelled(tmp_path, "m@step2", 4, ["step2"])
    assert labels_of(tmp_path, "m", "toy", second) == tmp_path / "labels" / "m@step2" / "toy"
    for path in plain.iterdir():
        path.unlink()  # as of the first versions, whose files say nothing of a model
    pl.DataFrame({"sequence_id": [1]}).write_parquet(plain / "memorized.parquet")
    assert labels_of(tmp_path, "m", "toy", "print of others") == plain
