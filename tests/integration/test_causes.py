"""The stages after training: a finished run gains them, a killed one goes on, and nothing is done twice."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import CAUSES, kill_in_the_middle, memgrid_here
from matplotlib.image import imread
from rich.console import Console
from runs_maker import composed

from memgrid.launch.workspace import Workspace
from memgrid.localize.maps import DecisionMaps
from memgrid.pipeline.causes import class_regions, file_name
from memgrid.pipeline.context import RunContext

CHAIN = "stages=[label,extract,train,localize,intervene]"
RESULTS = ("localize-guided.h5", "localize-guided.json", "intervene.parquet", "intervene-units.parquet", "intervene.json")


def folder_of(root):
    (path,) = root.glob("runs/*/*/*/metrics.json")
    return path.parent


def stamps(root):
    folder = folder_of(root)
    return {name: (folder / name).stat().st_mtime_ns for name in ("metrics.json", *RESULTS) if (folder / name).exists()}


def test_a_finished_run_gains_both_without_training_again(done, caused):
    before, after = folder_of(done), folder_of(caused)
    assert (after / "metrics.json").read_bytes() == (before / "metrics.json").read_bytes()
    assert (after / "checkpoints" / "last.ckpt").read_bytes() == (before / "checkpoints" / "last.ckpt").read_bytes()
    assert all((after / name).exists() for name in RESULTS)
    assert not list(after.glob("*.jsonl"))
    located, found = (json.loads((after / name).read_text()) for name in ("localize-guided.json", "intervene.json"))
    assert found["damage_on"] == "text that the model never read"
    assert located["inputs"] == found["inputs"]
    assert [one["class"] for one in located["classes"]] == ["Non-Memo", "Guess", "Recall"]
    assert set(located["sanity"]) == {"Non-Memo", "Guess", "Recall"}
    assert [one["class"] for one in found["verdict"]] == ["Guess", "Recall"]
    assert [dose["q"] for dose in found["verdict"][0]["doses"]] == [5.0, 30.0]
    table = pl.read_parquet(after / "intervene.parquet")
    assert table["samples"].max() <= 8
    assert table.filter(pl.col("masked") == "none")["damage"].to_list() == [0.0] * 6  # of two classes and three units
    assert {way["unit"] for way in found["selectivity"][0]["ways"]} == {"positions", "heads", "layers"}
    units = pl.read_parquet(after / "intervene-units.parquet")
    assert units.group_by("class", "unit", maintain_order=True).len()["len"].to_list() == [48, 6] * 2


def test_every_figure_is_drawn(caused):
    figures = folder_of(caused) / "figures"
    wanted = {"teaser-guided", "layers-guided", "randomisation-guided", "doses", "dose-prices", "dose-layers", "where", "heads"}
    for number, title in enumerate(("Non-Memo", "Guess", "Recall"), 1):
        wanted |= {f"delta-guided-{number}-{title}-1", f"sequence-guided-{number}-{title}"}
    assert {path.stem for path in figures.glob("*.png")} == wanted | {"attention", "confusion"}
    for name in wanted:
        assert imread(figures / f"{name}.png")[..., :3].std() > 0.02, name
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_a_run_with_all_that_is_asked_for_returns_at_once(caused_copy, quick):
    before = stamps(caused_copy)
    shown = memgrid_here(*quick, *CAUSES, f"root={caused_copy}", CHAIN).stdout
    assert "min-F1" in shown
    assert "extract " not in shown
    assert "Most of Δ (guided, 6 eval samples per class) lies for Non-Memo in layer" in shown
    assert "Networks with random weights in all layers give maps" in shown
    for name in ("Guess", "Recall"):
        assert shown.count(f"\n{name} (8 samples), its most decisive attention against") == 5
        assert shown.count(f"\n{name}: ") == 3  # what follows of positions, what leaves least at equal damage, and how far ways agree
        assert shown.count(f"\n{name}: at equal damage ") == 1
    assert stamps(caused_copy) == before
    # Who asks for less is not told of more.
    assert "Most of Δ" not in memgrid_here(*quick, f"root={caused_copy}").stdout


def test_only_what_changed_is_done_again(caused_copy, quick):
    before, redone = stamps(caused_copy), {"intervene.parquet", "intervene-units.parquet", "intervene.json"}
    given = (*quick, *CAUSES, "intervene.percent=[50]", "intervene.layers_at=null", "intervene.average=votes", f"root={caused_copy}")
    shown = memgrid_here(*given, CHAIN).stdout
    assert "train    nothing: it is finished" in shown
    assert " 0 extracted" in shown
    after = stamps(caused_copy)
    assert not list((folder_of(caused_copy) / "figures").glob("dose-layers.*"))  # of the earlier intervention, which is no more
    assert (folder_of(caused_copy) / "figures" / "doses.png").exists()
    assert {name for name in before if after[name] != before[name]} == redone
    # By force what is asked for, and nothing else: the training and the maps stay.
    memgrid_here(*given, "stages=[intervene]", "force=true")
    again = stamps(caused_copy)
    assert {name for name in before if again[name] != after[name]} == redone


def test_without_networks_or_maps_it_is_one_sentence(extracted, done_copy, quick):
    for stages, root, words in (
        ("[localize]", extracted, ["stages=['localize'] needs trained networks", "add train to stages"]),
        ("[intervene]", extracted, ["stages=['intervene'] needs trained networks"]),
        ("[intervene]", done_copy, ["the Δ maps of localize.method=guided are not in", "add localize to stages"]),
    ):
        process = memgrid_here(*quick, f"root={root}", f"stages={stages}", check=False)
        assert process.returncode == 1
        (line,) = [line for line in process.stderr.splitlines() if line.startswith("memgrid:")]
        assert all(word in line for word in words), line
    assert not (extracted / "runs").exists()


def test_localization_without_attention_says_what_to_do(done_copy, quick):
    shutil.rmtree(done_copy / "attention")
    process = memgrid_here(*quick, *CAUSES, f"root={done_copy}", "stages=[localize]", check=False)
    assert process.returncode == 1
    assert "attention of 18 samples is not in" in process.stderr
    assert "add extract to stages" in process.stderr


@pytest.mark.parametrize("given", ["localize.method=lime", "intervene.percent=[1,101]"])
def test_bad_settings_are_refused_before_any_work(given, tmp_path, quick):
    process = memgrid_here(*quick, f"root={tmp_path / 'new'}", CHAIN, given, check=False)
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith(f"memgrid: {given.replace('[1,101]', '101')} is ")
    assert not (tmp_path / "new").exists()


def test_a_killed_intervention_goes_on_with_the_same_result(caused, caused_copy, quick, tmp_path):
    folder = folder_of(caused_copy)
    for name in RESULTS[2:]:
        (folder / name).unlink()
    given = (*quick, *CAUSES, f"root={caused_copy}", "stages=[localize,intervene]")
    assert kill_in_the_middle(tmp_path / "hold", *given) == -signal.SIGKILL
    assert (folder / "intervene.partial.jsonl").read_bytes().count(b"\n") > 4
    assert not (folder / "intervene.json").exists()
    memgrid_here(*given)
    assert pl.read_parquet(folder / "intervene.parquet").equals(pl.read_parquet(folder_of(caused) / "intervene.parquet"))
    assert (folder / "intervene.json").read_bytes() == (folder_of(caused) / "intervene.json").read_bytes()


def test_numbers_of_a_map_are_shares():
    delta = np.zeros((3, 8, 8))
    delta[0, 2, 1], delta[1, 6, 2], delta[1, 7, 7] = 1, 2, 1
    names = dict.fromkeys(("method", "llm", "corpus", "training", "weights", "inputs", "memgrid"), "")
    maps = DecisionMaps(values=np.stack([delta, 0 * delta]), members={}, classes=("A", "B"), ids=(), samples=(9, 9), k=4, **names)
    regions = class_regions(maps, 0)
    assert regions.layer_shares == [25, 75, 0]
    assert (regions.layer, regions.layer_share, regions.layers, regions.samples) == (2, 75, 3, 9)
    assert (regions.within_prefix, regions.suffix_to_prefix, regions.within_suffix) == (25, 50, 25)
    assert regions.half == pytest.approx(100 / (3 * 36))
    assert regions.agreement is regions.shared is None
    both = class_regions(replace(maps, members={"a": maps.values, "b": maps.values}), 0)
    assert (both.agreement, both.shared) == (pytest.approx(1), 100)  # the three that are not zero
    dead = class_regions(maps, 1)
    assert (dead.layer_share, dead.within_prefix) == (0, 0)


def test_titles_become_names_of_files():
    assert [file_name(title) for title in ("Non-Memo", "Recite[5]", "../a b", "//")] == ["Non-Memo", "Recite-5", "a-b", "class"]


def test_damage_is_measured_on_what_the_model_never_read(caused, quick, mini):
    context = RunContext(composed((*quick, f"root={caused}")), Workspace(Console(quiet=True)))
    kinds = dict(pl.read_parquet(mini / "sequences.parquet").select("sequence_id", "kind").iter_rows())
    assert len(context.unseen) > 50
    assert {kinds[number] for number in context.unseen.tolist()} == {"held_out", "unseen_repeat", "unseen_increment"}
    elsewhere = RunContext(replace(context.run, root=str(mini)), Workspace(Console(quiet=True)))
    assert not len(elsewhere.unseen)  # nothing is labelled there
