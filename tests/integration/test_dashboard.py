"""The workspace's specification: what it shows is what runs log, and it reaches the server as it was made."""

import json
import re

import pytest
from conftest import memgrid
from runs_maker import Run, composed, result_of
from stand_in_wandb import Server
from wandb_files import config, epochs, finished_files, history, summary

from memgrid.errors import UserError
from memgrid.results.folder import RunFolder
from memgrid.tracking.log import summarise, tracked

pytest.importorskip("wandb_workspaces")
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View, WorkspaceViewspec

from memgrid.tracking.dashboard import PANEL, save, workspace

SECTIONS = ["Taxonomy ranking", "ρ curve", "Panel spread", "Controls", "Training curves", "Confusion matrices"]


def shown(spec):
    """Everything that panels, filters, columns and order name: kind (summary, config, history, media, regex, run) and key."""
    found = set()
    section = spec["section"]
    for panel in (panel for one in section["panelBankConfig"]["sections"] for panel in one["panels"]):
        given = panel["config"]
        found |= {("summary", key) for key in given.get("metrics", []) if panel["viewType"] == "Bar Chart"}
        found |= {("history", key) for key in given.get("metrics", []) if panel["viewType"] == "Run History Line Plot"}
        found |= {("media", key) for key in given.get("mediaKeys", [])}
        if panel["viewType"] == "Scatter Plot":
            found |= {tuple(given[axis].split(":", 1)) for axis in ("xAxis", "yAxis")}
        if panel["viewType"] == "Run History Line Plot":
            found |= {("history", given["xAxis"]), ("regex", given["metricRegex"])}
        if given.get("groupBy"):
            found.add(("config", given["groupBy"]))
    (runs,) = section["runSets"]
    found |= {tuple(column.split(":", 1)) for column in runs["runFeed"]["columnPinned"]}
    found |= {(key["key"]["section"], key["key"]["name"]) for key in runs["sort"]["keys"]}
    found |= {(one["key"]["section"], one["key"]["name"]) for one in runs["filters"]["filters"]}
    return found | {(key["section"], key["name"]) for key in runs["grouping"]}


def flat(values, before=""):
    """The paths of a nested config, as wandb writes them: `.value` stands behind the first key."""
    for key, value in values.items():
        path = f"{before}.{key}" if before else f"{key}.value"
        yield path
        if isinstance(value, dict):
            yield from flat(value, path)


@pytest.fixture(scope="module")
def spec():
    return workspace("somebody", "memgrid")._to_model().spec.model_dump(by_alias=True, exclude_none=True)


def test_sections_and_runs(spec):
    assert [section["name"] for section in spec["section"]["panelBankConfig"]["sections"]] == SECTIONS
    assert all(section["panels"] for section in spec["section"]["panelBankConfig"]["sections"])
    (runs,) = spec["section"]["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [("run", "group")]  # by cell
    assert runs["sort"]["keys"][0] == {"key": {"section": "summary", "name": "min_f1"}, "ascending": False}


def test_what_is_shown_is_what_a_real_run_logs(spec, done):
    (path,) = (path for path in done.glob("runs/*/*/*seed0*/wandb/offline-run-*/run-*.wandb"))
    logged = {("summary", key) for key in summary(path)} | {("config", key) for key in flat(config(path))}
    logged |= {("history", key) for row in history(path) for key in row}
    logged |= {("media", key.split("/")[0]) for key in summary(path) if key.endswith("/_type")} | {("run", "displayName"), ("run", "group")}
    expressions = {key for kind, key in shown(spec) if kind == "regex"}
    for expression in expressions:
        assert any(re.search(expression, key) for kind, key in logged if kind == "history"), expression
    # One run has one CNN and one ROUGE score: the others' keys are in the next test.
    others = {("summary", f"members/{name}/min_f1") for name in PANEL} | {("summary", f"rouge_{rouge}/min_f1") for rouge in "l3"}
    missing = shown(spec) - logged - {("regex", key) for key in expressions}
    assert missing <= others, missing - others
    assert len(missing) == len(others) - 1


def test_every_cnn_of_the_panel_and_every_rouge_score_is_logged(spec, tmp_path):
    found = set()
    for index, rouge in enumerate(("both", "l", "3")):
        result = result_of(Run(tmp_path, overrides=("cnn=paper",), rouge=rouge))
        folder = tmp_path / f"x-000000000{index}"
        with tracked(composed(("cnn=paper", f"rouge={rouge}")), RunFolder(folder)) as logger:
            summarise(logger, result)
        (path,) = finished_files(folder)
        assert epochs(path) == []
        found |= set(summary(path))
    assert {key for kind, key in shown(spec) if kind == "summary"} <= found
    assert {f"members/{name}/min_f1" for name in PANEL} == {key for key in found if key.startswith("members/")}


def test_a_json_round_trip_changes_nothing(spec):
    made = workspace("somebody", "memgrid")._to_model()
    text = made.spec.model_dump_json(by_alias=True, exclude_none=True)
    again = WorkspaceViewspec.model_validate_json(text)
    assert json.loads(again.model_dump_json(by_alias=True, exclude_none=True)) == json.loads(text)
    view = View(entity="somebody", project="memgrid", display_name=made.display_name, name="nw-x-v", id="1", spec=again)
    loaded = Workspace._from_model(view)._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    assert shown(loaded) == shown(spec)
    assert [len(section["panels"]) for section in loaded["section"]["panelBankConfig"]["sections"]] == [
        len(section["panels"]) for section in spec["section"]["panelBankConfig"]["sections"]
    ]


def test_it_is_saved_in_the_project_of_a_logged_in_user(spec, tmp_path):
    with Server() as server:
        environment = {"HOME": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path), **server.environment}
        process = memgrid("dashboard", module="tracking", env=environment)
        server.shutdown()
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("somebody", "memgrid", "memgrid")
    assert shown(json.loads(view["spec"])) == shown(spec)
    assert process.stdout.startswith(f"The dashboard is at {server.environment['WANDB_BASE_URL']}/somebody/memgrid?nw=")


def test_a_project_that_does_not_take_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(Workspace, "save", lambda _: (_ for _ in ()).throw(ValueError("Project not found.  Do you have access?")))
    with pytest.raises(UserError, match=r"^project=nobody/none does not take the dashboard: push a run to it with `[^`]* sync` first$"):
        save("nobody", "none")
