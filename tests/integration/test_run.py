"""What a user types: runs, multiruns, resuming, and what is refused."""

import json
import shlex
import shutil
import signal
import time

import polars as pl
import pytest
from conftest import FEWER, kill_in_the_middle, memgrid, memgrid_here
from filelock import FileLock
from tokenizers import Tokenizer

from memgrid.config.overrides import command, read_config
from memgrid.errors import StoreWarning
from memgrid.io.paths import TOY


def folders(root):
    return sorted(path.parent for path in root.glob("runs/*/*/*/metrics.json"))


def scores_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: metrics[key] for key in ("panel", "paper_protocol", "confusion", "control", "confidence")}


def test_a_run_leaves_everything_that_is_promised(done):
    (folder,) = folders(done)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "samples.parquet", "epochs.parquet", "predictions.parquet", "metrics.json", "checkpoints/last.ckpt"} <= names
    assert {f"figures/{name}.{kind}" for name in ("confusion", "attention") for kind in ("png", "pdf")} <= names
    samples = pl.read_parquet(folder / "samples.parquet")
    predictions = pl.read_parquet(folder / "predictions.parquet")
    assert set(predictions["sequence_id"]) == set(samples.filter(pl.col("side") == "eval")["sequence_id"])
    assert pl.read_parquet(folder / "epochs.parquet").height == 3


def test_a_finished_run_returns_its_result_at_once(done_copy, quick):
    (folder,) = folders(done_copy)
    before = (folder / "metrics.json").stat().st_mtime_ns
    started = time.process_time()
    shown = memgrid_here(*quick, f"root={done_copy}").stdout
    assert time.process_time() - started < 10
    assert "min-F1" in shown
    assert "extract" not in shown
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_force_runs_again_with_the_same_result_bit_for_bit(done_copy, quick):
    (folder,) = folders(done_copy)
    before, stamp = scores_of(folder), (folder / "metrics.json").stat().st_mtime_ns
    shown = memgrid_here(*quick, f"root={done_copy}", "force=true").stdout
    assert "0 extracted" in shown
    assert "nothing computed" in shown
    assert (folder / "metrics.json").stat().st_mtime_ns > stamp
    assert scores_of(folder) == before


def test_multirun_as_typed_extracts_only_what_is_new(extracted, quick):
    shown = memgrid(*quick, f"root={extracted}", "taxonomy=rasy,recite", "delta=5,50", "cnn.kernel_size=6", "cnn.epochs=1", "-m").stdout
    assert len(folders(extracted)) == 3  # rasy does not depend on δ: its second run is its first
    new = [int(line.split("samples: ")[1].split()[0]) for line in shown.splitlines() if line.startswith("extract")]
    wanted = [int(line.split()[1]) for line in shown.splitlines() if line.startswith("extract")]
    assert new[0] == 0  # the same samples as the finished run: the network does not matter
    assert new[1] < wanted[1]
    report = memgrid(f"root={extracted}", module="report").stdout
    assert "3 finished runs" in report
    table = pl.read_csv(extracted / "report" / "runs.csv")
    assert table.height == 3
    assert table["min_f1"].is_sorted(descending=True)
    assert (extracted / "report" / "runs.md").read_text().count("\n") == 5


def test_the_sentence_of_the_readme(done_copy, quick):
    shown = memgrid("taxonomy=rasy", "rho=0.5", *quick, f"root={done_copy}", "-m").stdout
    assert "min-F1" in shown


def test_one_run_that_cannot_be_done_does_not_stop_the_others(extracted, quick):
    given = (*quick, *FEWER, f"root={extracted}", "taxonomy=recite", "delta=100000,50", "cnn.epochs=1")
    process = memgrid_here(*given, "-m", check=False)
    assert process.returncode == 1
    assert "class 'Recite' has 0 samples" in process.stderr
    assert len(folders(extracted)) == 1


def test_another_seed_takes_other_samples_and_prints_none(done, extracted, quick, mini):
    process = memgrid_here(*quick, *FEWER, f"root={extracted}", "seed=7", "cnn.epochs=1")
    first, second = (set(pl.read_parquet(folders(root)[0] / "samples.parquet")["sequence_id"]) for root in (done, extracted))
    assert first != second
    assert_no_sequence(process.stdout + process.stderr, mini)


def assert_no_sequence(printed, corpus):
    """Text of sequences is nothing for a log, nor are their tokens."""
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    assert "min-F1" in printed
    for tokens in pl.read_parquet(corpus / "sequences.parquet")["tokens"].to_list():
        text = tokenizer.decode(tokens[8:24]).strip()
        assert len(text) < 12 or text not in printed
        assert not any(separator.join(map(str, tokens[8:14])) in printed for separator in (", ", ",", " "))


def test_stages_one_by_one(tmp_path, quick, few):
    quick = (*quick, *few)
    assert "add label to stages" in memgrid_here(*quick, f"root={tmp_path}", "stages=[extract]", check=False).stderr
    memgrid_here(*quick, f"root={tmp_path}", "stages=[label]")
    assert "add extract to stages" in memgrid_here(*quick, f"root={tmp_path}", "stages=[train]", check=False).stderr
    memgrid_here(*quick, f"root={tmp_path}", "stages=[extract]")
    memgrid_here(*quick, f"root={tmp_path}", "stages=[train]", "cnn.epochs=1")
    assert len(folders(tmp_path)) == 1


def test_a_damaged_shard_is_extracted_again(extracted, quick):
    shard = next(iter((extracted / "attention").rglob("*.h5")))
    shard.write_bytes(shard.read_bytes()[:5000])
    process = memgrid_here(*quick, f"root={extracted}", "stages=[extract]")
    assert shard.name in process.stderr
    assert StoreWarning.__name__ in process.stderr or "damaged" in process.stderr
    assert " 0 extracted" not in process.stdout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["rho=1.5"], ["rho=1.5"]),
        (["rho=abc"], ["rho=abc is no number", "write rho=<number>"]),
        (["nosuch=3"], ["nosuch"]),
        (
            ["experiment=nope"],
            [
                "experiment=nope is unknown: use benchmark_taxonomies, causal, checkpoints, cifar10_paper, controls, ",
                "optimize_rho, paper_in_small, rho_in_small, smoke",
            ],
        ),
        (["cnn=null"], ["cnn=null chooses nothing: use linear, panel, paper, single, or leave cnn out"]),
        (["taxonomy=rasy,null", "-m"], ["taxonomy=rasy,null chooses nothing: use code, "]),
        (["delta=[1"], ["delta=[1 cannot be read", "delta=[1,2]"]),
        (["compat=mine"], ["compat=mine is unknown"]),
        (["cnn.learning_rate=-1"], ["cnn.learning_rate=-1.0 is out of range"]),
        (["llm.name=some/model"], ["llm.name=some/model cannot name a folder"]),
        (["root=/proc/nowhere", "seed=0,1", "-m"], ["/proc/nowhere", "cannot be written"]),
        (["rho=0"], ["rho=0"]),
        (["delta=-1"], ["delta=-1"]),
        (["corpus.k=70"], ["corpus.k=70"]),
        (["llm=hf", "llm.name=x", "llm.path=/no/such/model"], ["/no/such/model", "neither a folder"]),
        (["select.min_train_per_class=5000", "select.train_per_class=5000"], ["class '", "samples", "5000 were wanted"]),
        (["corpus=tables", "corpus.name=x", "corpus.path=/no/such/folder"], ["/no/such/folder"]),
        (["root=/proc/nowhere"], ["/proc/nowhere", "cannot be written"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_one(given, words, quick, extracted):
    process = memgrid_here(*quick, f"root={extracted}", *given, check=False)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    sentence = [line for line in process.stderr.splitlines() if line.startswith("memgrid:")]
    assert len(sentence) == 1, process.stderr
    assert all(word in sentence[0] for word in words), sentence


def test_an_unknown_taxonomy_is_one_sentence_that_says_where_the_known_are(tmp_path):
    process = memgrid("taxonomy=unheard_of", f"root={tmp_path}", check=False)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("memgrid: taxonomy=unheard_of is unknown: use one of the ")
    assert "that `memgrid run --help` lists" in line


def test_flags_may_stand_anywhere(tmp_path):
    assert "nothing to download" in memgrid_here("rho=0.5", "-m", "taxonomy=rasy", f"root={tmp_path}", "stages=[fetch]").stdout


def test_a_second_process_on_the_same_cell_says_so(done_copy, quick):
    (folder,) = folders(done_copy)
    with FileLock(folder / ".lock"):
        process = memgrid_here(*quick, f"root={done_copy}", "stages=[localize]", check=False)
        shown = memgrid_here(*quick, f"root={done_copy}").stdout
    assert process.returncode == 1
    assert "another process is working on" in process.stderr
    assert "min-F1" in shown  # what is finished is read beside whoever works on a later stage


@pytest.mark.parametrize(
    ("sent", "status", "mode"), [(signal.SIGKILL, -9, "resident"), (signal.SIGTERM, 143, "resident"), (signal.SIGKILL, -9, "stream")]
)
def test_a_killed_training_goes_on_with_the_same_result(done, extracted, quick, sent, status, mode, tmp_path):
    quick = (*quick, f"data.mode={mode}", "data.workers=1")
    assert kill_in_the_middle(tmp_path / "hold", *quick, f"root={extracted}", sent=sent) == status
    assert folders(extracted) == []
    memgrid_here(*quick, f"root={extracted}")
    (whole,), (resumed,) = folders(done), folders(extracted)
    assert scores_of(resumed) == scores_of(whole)


def test_it_works_from_any_folder(done_copy, quick, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shown = memgrid(*quick, f"root={done_copy}", cwd=folder).stdout
    assert "min-F1" in shown
    assert list(folder.iterdir()) == []


def test_a_taxonomy_of_ones_own_is_one_file(done_copy, quick, tmp_path):
    folder = tmp_path / "mine" / "taxonomy"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine\nclasses: {Others: memorized, Templates: reconstruct}\n")
    given = ("--config-dir", folder.parent, *quick, f"root={done_copy}", "taxonomy=mine", "cnn.epochs=1")
    process = memgrid_here(*given, check=False)
    assert process.returncode == 1
    assert "class 'Templates' of taxonomy 'mine' can never match: 'Others' comes before it" in process.stderr
    (folder / "mine.yaml").write_text("name: mine\nclasses: {Templates: reconstruct, Others: memorized}\n")
    assert "Templates" in memgrid_here(*given).stdout
    (found,) = done_copy.glob("runs/toy/mine/*/metrics.json")
    # What is proposed for it names the folder of that file, and is this very run when it is typed.
    again = shlex.split(command(read_config(found.with_name("config.yaml"), done_copy), "wandb=off"))
    assert again[:3] == ["python", "-m", "memgrid.run"]
    assert again[-2:] == ["--config-dir", str(folder.parent)]
    before = found.stat().st_mtime_ns
    assert "Templates" in memgrid_here(*again[3:]).stdout
    assert found.stat().st_mtime_ns == before


def test_a_finished_run_of_edited_tables_is_not_returned(done_copy, quick, mini, tmp_path):
    shutil.copytree(mini, tmp_path / "tables", symlinks=True)
    given = (*quick, f"corpus.path={tmp_path / 'tables'}", f"root={done_copy}", "cnn.epochs=1")
    memgrid_here(*given)
    assert "min-F1" in memgrid_here(*given).stdout
    path = tmp_path / "tables" / "sequences.parquet"
    pl.read_parquet(path).head(-1).write_parquet(path)
    process = memgrid_here(*given, check=False)
    assert process.returncode == 1
    assert "holds other sequences than when this run was finished" in process.stderr


def test_shared_work_is_done_again_where_it_is_named_and_the_training_stays(done_copy, quick):
    (folder,) = folders(done_copy)
    result, before = (folder / "metrics.json").read_bytes(), list((done_copy / "attention").rglob("*.h5"))
    label = next((done_copy / "labels").rglob("memorized.parquet"))
    content, stamp = pl.read_parquet(label), label.stat().st_mtime_ns
    shown = memgrid_here(*quick, f"root={done_copy}", "force=[label,extract]").stdout
    assert "computed anew, for all runs that share them" in shown
    assert "extract  removed the attention of these samples" in shown
    assert " 0 already in" in shown
    assert "min-F1" in shown
    assert label.stat().st_mtime_ns > stamp
    assert pl.read_parquet(label).equals(content)
    assert not any(path.exists() for path in before)
    assert (folder / "metrics.json").read_bytes() == result
