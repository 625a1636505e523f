"""`memgrid export`: what the library reads is what the runs have, no text unless it is asked for, whole or absent, and on the hub."""

import json
import re
import shutil
from pathlib import Path

import datasets
import forks
import numpy as np
import polars as pl
import pytest
import yaml
from conftest import memgrid_here, refusal
from polars.testing import assert_frame_equal
from stand_in_hub import TOKEN, opened

import memgrid as face
from memgrid.io import files as files_module
from memgrid.pipeline.face.export import files as export_files
from memgrid.pipeline.face.export.columns import COLUMNS, meaning
from memgrid.pipeline.face.export.files import LIST, digests_in
from memgrid.results.folder import RunFolder

TABLES = ("runs", "samples", "predictions", "decision_maps", "labels")
COMMITTED = "/api/datasets/somebody/runs/commit/main"


@pytest.fixture(scope="module")
def run(caused):
    (only,) = face.runs(caused)
    return only


@pytest.fixture(scope="module")
def exported(caused, tmp_path_factory):
    """An export of all runs of `caused`, as it is typed."""
    out = tmp_path_factory.mktemp("exported") / "out"
    told = memgrid_here("export", caused, f"out={out}", module="__main__").stdout
    assert told == f'1 finished run in {out}: datasets.load_dataset("{out}", "predictions")\n'
    return out


def loaded(folder, table, tmp_path):
    """A table as the library reads it, its splits one after the other."""
    splits = datasets.load_dataset(str(folder), table, cache_dir=str(tmp_path / "cache"))
    return {name: split.to_polars() for name, split in splits.items()}


def test_the_library_reads_what_the_run_has(run, exported, tmp_path):
    name = "/".join(run.folder.path.parts[-3:])
    samples = loaded(exported, "samples", tmp_path)
    wanted = run.samples.select("sequence_id", pl.col("title").alias("class"), "label", "side", "group")
    for side in ("train", "eval"):
        assert_frame_equal(samples[side].drop("run"), wanted.filter(side=side), check_dtypes=False)
        assert samples[side]["run"].unique().to_list() == [name]

    predictions = loaded(exported, "predictions", tmp_path)["eval"]
    networks = [
        *run.metrics.members,
        *(name for name in {**run.metrics.baselines, **run.metrics.probes} if run.metrics.baselines.get(name)),
    ]
    networks += list(run.metrics.probes)
    assert set(predictions["network"]) == set(networks)
    for network, rows in predictions.group_by("network"):
        theirs = run.predictions_of(network[0])
        kind = "network" if network[0] in run.metrics.members else "probe" if network[0] in run.metrics.probes else "baseline"
        assert rows["kind"].unique().to_list() == [kind]
        assert rows["classes"].to_list() == [run.classes] * len(rows)
        assert np.array_equal(
            np.array(rows["probabilities"].to_list(), np.float32), theirs.select(run.classes).to_numpy().astype(np.float32)
        )
        same = rows.select("sequence_id", pl.col("class").alias("label"), "predicted", "correct")
        assert_frame_equal(same, theirs.select("sequence_id", "label", "predicted", "correct"), check_dtypes=False)

    maps, found = loaded(exported, "decision_maps", tmp_path)["train"], run.decision_maps()
    assert maps["class"].to_list() == list(found.classes)
    assert np.array_equal(np.array(maps["map"].to_list(), np.float32), found.maps)

    labels = loaded(exported, "labels", tmp_path)["train"]
    for path in (run.root / "labels").glob("*/*/*.parquet"):
        file = pl.read_parquet(path)
        named = {column: next(mine for mine in labels.columns if mine.startswith(column)) for column in file.columns}
        assert_frame_equal(labels.select(named.values()), file.rename(named), check_dtypes=False)

    (row,) = loaded(exported, "runs", tmp_path)["train"].to_dicts()
    assert row["run"] == name
    assert row["min_f1"] == run.metrics.panel.min_f1.mean
    assert json.loads(row["settings"]) == run.metrics.settings
    assert json.loads(row["metrics"])["confusion"] == run.metrics.confusion
    assert row["command"] in run.command()
    assert "root=" not in row["command"]


def test_the_card_says_what_there_is(run, exported):
    _, front, text = (exported / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert [config["config_name"] for config in said["configs"]] == list(TABLES)
    assert said["license"] == "unknown"
    rows = 0
    for config, info in zip(said["configs"], said["dataset_info"], strict=True):
        for split in config["data_files"]:
            (path,) = exported.glob(split["path"])
            table = pl.read_parquet(path)
            rows += table.height
            assert [feature["name"] for feature in info["features"]] == table.columns
            assert f"{table.height:,} rows in `{split['split']}`" in text or table.height == 1
            assert all(f"| `{column}` | {meaning(config['config_name'], column)} |" in text for column in table.columns)
    assert 1000 < rows < 10000
    assert said["size_categories"] == ["1K<n<10K"]
    for path in (run.root / "labels").glob("*/*/*.parquet"):
        assert f"{pl.read_parquet_metadata(path)['digest']}  {'/'.join(path.parts[-3:])}" in text
    assert "    python -m memgrid.run corpus=tables" in text


def words_of(folder):
    """Everything that the files of a folder say: their bytes, and the values of tables as JSON and as numbers of every width."""
    parts = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts.append(path.read_bytes())
        if path.suffix == ".parquet":
            for column in pl.read_parquet(path).iter_columns():
                parts.append(json.dumps(column.to_list(), ensure_ascii=False).encode())
    return b"\n".join(parts)


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_text_is_there_only_if_asked_for(run, format, tmp_path):
    """Of every sample: a piece of its text, its tokens as JSON writes them, and as bytes."""
    corpus = run.corpus
    tokens = corpus.tokens[corpus.rows_of(run.samples["sequence_id"].to_numpy())]
    texts = [run.text(int(ident)) for ident in run.samples["sequence_id"].head(20)]
    pieces = [json.dumps(text.prefix[4:24], ensure_ascii=False)[1:-1].encode() for text in texts]
    pieces += [json.dumps(row[:6].tolist())[1:-1].encode() for row in tokens]
    bare = [row[:4].astype(kind).tobytes() for row in tokens[:20] for kind in (np.int16, np.int32, np.int64)]
    run.export(tmp_path / "without", format=format)
    without = words_of(tmp_path / "without")
    assert not any(piece in without for piece in (*pieces, *bare))
    assert b"No token and no text" in without
    run.export(tmp_path / "with", format=format, text=True, license="cc-by-4.0")
    there = words_of(tmp_path / "with")
    assert all(piece in there or piece.replace(b'\\"', b'""') in there for piece in pieces if b"\\n" not in piece)
    assert b"**Text of others.** The table `texts` holds tokens and text of the corpora `mini`" in there
    assert b"license: cc-by-4.0\n" in there


def test_texts_are_those_of_the_run(run, tmp_path):
    run.export(tmp_path / "out", text=True)
    texts = loaded(tmp_path / "out", "texts", tmp_path)["train"]
    assert set(texts["sequence_id"]) == set(run.samples["sequence_id"])
    for row in texts.head(10).to_dicts():
        text = run.text(row["sequence_id"])
        assert (row["prefix"], row["suffix"]) == (text.prefix, text.suffix)
        assert row["tokens"] == run.corpus.tokens[run.corpus.rows_of(np.array([row["sequence_id"]]))][0].tolist()


def test_csv_holds_the_same(run, tmp_path):
    run.export(tmp_path / "out", format="csv")
    predictions = pl.read_csv(tmp_path / "out/predictions/eval-00000.csv").filter(network=run.metrics.members[0])
    theirs = run.predictions_of(run.metrics.members[0])
    assert predictions["answer"].head(len(run.classes)).to_list() == run.classes
    assert np.allclose(predictions["probability"].to_numpy().reshape(theirs.height, -1), theirs.select(run.classes).to_numpy(), atol=1e-7)
    maps, found = pl.read_csv(tmp_path / "out/decision_maps/train-00000.csv"), run.decision_maps()
    again = np.zeros_like(found.maps)
    places = [maps["class"].replace_strict({title: at for at, title in enumerate(found.classes)}).to_numpy()]
    again[*places, *(maps[axis].to_numpy() for axis in ("layer", "query", "key"))] = maps["value"].to_numpy()
    assert np.allclose(again, found.maps, rtol=1e-6, atol=0)
    labels = loaded(tmp_path / "out", "labels", tmp_path)["train"]
    (path,) = (run.root / "labels").glob("*/*/memorized.parquet")
    assert_frame_equal(labels.select(pl.read_parquet(path).columns), pl.read_parquet(path), check_dtypes=False)
    columns = {path.parent.name: pl.read_csv(path).columns for path in (tmp_path / "out").rglob("*.csv")}
    assert all(meaning(table, column) for table, names in columns.items() for column in names)
    assert set(COLUMNS["predictions"]) == {*columns["predictions"], "classes", "probabilities"}
    assert set(COLUMNS["decision_maps"]) == {*columns["decision_maps"], "map"}


def test_an_export_is_replaced_and_nothing_else(run, exported, tmp_path):
    out = shutil.copytree(exported, tmp_path / "out")
    (out / "memgrid-export.json").touch()
    run.export(out, license="mit")
    assert "license: mit\n" in (out / "README.md").read_text()
    (out / "README.md").write_text("mine")
    assert refusal(run.export, out) == f"out={out} was changed since it was exported (README.md): move it away, or choose another name"
    run.export(tmp_path / "other")
    (tmp_path / "other/notes.txt").touch()
    assert "(notes.txt)" in refusal(run.export, tmp_path / "other")
    (tmp_path / "linked").symlink_to(exported)
    assert refusal(run.export, tmp_path / "linked") == f"out={tmp_path}/linked is a link: name the folder itself, or choose another name"
    (tmp_path / "empty").mkdir()
    assert "exists and is no export of memgrid" in refusal(run.export, tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "linked", "other", "out"]


def test_what_cannot_be_exported_is_one_sentence(caused, done_copy, tmp_path, monkeypatch):
    (run,) = face.runs(done_copy)
    inside = done_copy / "report/mine"
    assert refusal(run.export, inside).startswith(f"out={inside} lies in root={done_copy}, where memgrid keeps its own folders")
    assert refusal(run.export, tmp_path / "x", "xml") == "format=xml cannot be written: use parquet or csv"
    assert "license=None of yours is no licence" in refusal(lambda: run.export(tmp_path / "x", license="None of yours"))
    assert "out=x is a folder: leave it out" in refusal(lambda: run.export("x", public=True))
    told = memgrid_here("export", tmp_path / "nowhere", f"out={tmp_path}/x", module="__main__", check=False)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "nowhere holds no finished run" in told.stderr
    blob = run.folder.predictions.read_bytes()
    run.folder.predictions.write_bytes(blob[:2000] + bytes([blob[2000] ^ 1]) + blob[2001:])
    assert re.search("predictions.parquet is damaged .*: remove it and make it anew with `python", refusal(run.export, tmp_path / "x"))
    run.folder.predictions.write_bytes(blob)
    (label,) = (done_copy / "labels").glob("*/*/memorized.parquet")
    blob = label.read_bytes()
    label.write_bytes(blob[:99] + bytes([blob[99] ^ 1]) + blob[100:])
    assert "memorized.parquet is damaged" in refusal(run.export, tmp_path / "x")
    label.write_bytes(blob)
    run.folder.metrics.unlink()
    told = memgrid_here("export", run.folder.path, f"out={tmp_path}/x", module="__main__", check=False).stderr
    assert "holds a run without a result: finish it with `python -m memgrid.run " in told
    (whole,) = face.runs(caused)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module, "force_to_disk", full)
    assert refusal(whole.export, tmp_path / "x").startswith(f"Cannot write to {tmp_path}/x/")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied", str(tmp_path))))
    assert str(tmp_path) in refusal(whole.export, tmp_path / "x")
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if "x" in path.name or path.name.startswith(".")]


def test_a_run_without_labels_or_maps_is_exported_without_them(done_copy, tmp_path):
    shutil.rmtree(done_copy / "labels")
    (run,) = face.runs(done_copy)
    run.export(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["predictions", "runs", "samples"]


KILLED = """
import os, signal, sys
from memgrid.io import files
when, calls = sys.argv.pop(1), []
def killing(name, after):
    true = getattr(files, name)
    def act(*given):
        calls.append(name)
        if not after and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        true(*given)
        if after:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(files, name, act)
name, number = when.split(":")[0], int(when.split(":")[1])
killing(name, not number)
import runpy
runpy.run_module("memgrid", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("when", "there"),
    [("force_to_disk:1", True), ("force_to_disk:9", True), ("exchange:1", True), ("exchange:0", True), ("force_to_disk:9", False)],
)
def test_killed_it_leaves_the_old_or_the_new_one_and_goes_on(caused, exported, when, there, tmp_path):
    """SIGKILL while a file is written, just before the new folder takes its place, and just after."""
    out = tmp_path / "out"
    if there:
        shutil.copytree(exported, out)
    words = ["export", str(caused), f"out={out}", "license=mit"]
    process = forks.run(["-c", KILLED, when, *words], light=True)
    assert process.returncode == -9, process.stderr
    assert out.exists() == there
    if there:
        new = when == "exchange:0"
        assert json.loads((out / LIST).read_text())["files"] == digests_in(out)
        assert ("license: mit\n" in (out / "README.md").read_text()) == new
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".partial-")]) == 1
    memgrid_here(*words, module="__main__")
    assert "license: mit\n" in (out / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_it_needs_no_language_model_and_no_torch(caused, tmp_path):
    code = """
import runpy, sys
try:
    runpy.run_module("memgrid", run_name="__main__")
finally:
    print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    process = forks.run(["-c", code, "export", str(caused), f"out={tmp_path}/out"], light=True)
    assert process.stdout.splitlines()[-1] == "[]", process.stderr


def test_where_folders_cannot_be_exchanged_the_old_one_stands_aside(run, exported, tmp_path, monkeypatch):
    out = shutil.copytree(exported, tmp_path / "out")
    monkeypatch.setattr(files_module.ctypes, "CDLL", lambda _: object())
    run.export(out, license="mit")
    assert "license: mit\n" in (out / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_many_runs_are_one_data_set_in_files_of_some_size(twins, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "FILE_BYTES", 5000)
    runs = face.runs(twins)
    runs.export(tmp_path / "out")
    assert len(list((tmp_path / "out/predictions").iterdir())) > 1
    predictions = loaded(tmp_path / "out", "predictions", tmp_path)["eval"]
    assert sorted(predictions["run"].unique()) == sorted("/".join(run.folder.path.parts[-3:]) for run in runs)
    for run in runs:
        mine = predictions.filter(run="/".join(run.folder.path.parts[-3:]), network=run.metrics.members[0])
        assert mine["predicted"].to_list() == run.predictions_of(run.metrics.members[0])["predicted"].to_list()
    (labels,) = (tmp_path / "out/labels").iterdir()
    assert pl.read_parquet(labels)["sequence_id"].is_unique().all()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub at which somebody is logged in."""
    with opened({}) as server:
        hub_is(monkeypatch, server.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def hub_is(monkeypatch, endpoint):
    """The hub's library finds the hub at an address, and sends large files in the way that a stand-in knows."""
    for name, value in {"ENDPOINT": endpoint, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


def test_a_push_makes_the_repository_what_a_folder_would_be(run, hub, exported):
    told = run.export("hub:somebody/runs")
    assert told == f"{hub.endpoint}/datasets/somebody/runs"
    files = hub.repositories["datasets/somebody/runs"]
    assert set(files) == {".gitattributes", LIST, *digests_in(exported)}
    for name in digests_in(exported):
        assert files[name] == (exported / name).read_bytes(), name
    assert hub.private == {"datasets/somebody/runs"}
    assert hub.commits == ["datasets/somebody/runs"]
    files["predictions/eval-00001.parquet"] = b"of more runs"
    run.export("hub:somebody/runs", license="mit")
    again = hub.repositories["datasets/somebody/runs"]
    assert "predictions/eval-00001.parquet" not in again
    assert b"license: mit\n" in again["README.md"]
    assert len(hub.commits) == 2
    run.export("hub:some-team/runs", public=True, format="csv")
    assert "datasets/some-team/runs" not in hub.private
    assert "samples/eval-00000.csv" in hub.repositories["datasets/some-team/runs"]


def test_what_cannot_be_pushed_is_refused_before_any_work(run, hub, monkeypatch):
    monkeypatch.setattr("memgrid.pipeline.face.export.export.write_export", lambda *_: pytest.fail("worked before it was refused"))
    for name in ("somebody", "hub:x", "hub:a/b/c", "hub:a b/c", "hub:/c", "hub:a/", "hub:a/b--c"):
        if name.startswith("hub:"):
            assert f"out={name} names no data set of the hub: write hub:owner/name" in refusal(run.export, name)
    assert "belongs to others, and you are logged in as somebody: use hub:somebody/… or hub:some-team/…" in refusal(
        run.export, "hub:others/runs"
    )
    hub.repositories["datasets/somebody/other"] = {"README.md": b"mine"}
    assert refusal(run.export, "hub:somebody/other") == "out=hub:somebody/other exists and is no export of memgrid: choose another name"
    hub.repositories["datasets/somebody/public"] = {LIST: b"{}"}
    assert "exists and is public: add public=true" in refusal(run.export, "hub:somebody/public")
    hub.private.add("datasets/somebody/public")
    assert "exists and is private: leave public=true out" in refusal(lambda: run.export("hub:somebody/public", public=True))
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "cannot be pushed because the hub refuses your login there" in refusal(run.export, "hub:somebody/runs")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    assert (
        refusal(run.export, "hub:somebody/runs")
        == "out=hub:somebody/runs needs a login on the hub: type `hf auth login` first, or set HF_TOKEN"
    )
    assert hub.commits == []
    assert hub.posted == []


def test_without_a_network_a_push_is_one_sentence(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub_is(monkeypatch, "http://127.0.0.1:9")
    assert "cannot be pushed because the hub does not answer" in refusal(run.export, "hub:somebody/runs")


def test_a_token_that_may_not_write_is_one_sentence(run, hub):
    hub.refuses = ("/api/repos/create",)
    assert "the hub refuses your login there: log in with a token that may write" in refusal(run.export, "hub:somebody/runs")
    hub.refuses = (COMMITTED,)
    assert "a token that may write" in refusal(run.export, "hub:somebody/runs")
    assert list(hub.repositories["datasets/somebody/runs"]) == [".gitattributes"]
    hub.refuses = ()
    run.export("hub:somebody/runs")
    assert RunFolder(run.folder.path).is_finished()


def test_python_exports_one_run_or_all(run, exported, tmp_path):
    assert face.runs(run.root).export(tmp_path / "all") == str(tmp_path / "all")
    assert digests_in(tmp_path / "all") == digests_in(exported)
    run.export(tmp_path / "one")
    assert digests_in(tmp_path / "one") == digests_in(exported)
