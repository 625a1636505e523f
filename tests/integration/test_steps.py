"""Many checkpoints of one name, from a real training of a tiny model to the report's section on what is memorized when."""

import shutil

import polars as pl
import pytest
import torch
from conftest import QUICK, memgrid_here
from safetensors.torch import load_file, save_file
from steps_maker import make_corpus, make_steps
from transformers import GPTNeoXForCausalLM

from memgrid.io.digests import read_json

STEPS = (0, 20, 50, 70, 90, 140)
SMALL = ("select.leak_free=false", "select.train_per_class=12", "select.eval_per_class=4", "select.min_train_per_class=5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoints, and three that are not what they are called: two serve the weights of another step, one a part of them."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = make_corpus(folder / "corpus")
    made = make_steps(corpus, folder, STEPS)
    shutil.copytree(made[0], folder / "step1")
    shutil.copytree(made[-1], folder / "step60")
    half = shutil.copytree(made[2], folder / "step55")
    weights, other = (load_file(path / "model.safetensors") for path in (half, made[-1]))
    save_file(
        {name: other[name] if "layers.0" in name else weights[name] for name in weights}, half / "model.safetensors", {"format": "pt"}
    )
    return folder, corpus


def memorized_by_hand(folder, tokens):
    """How many sequences a model continues word for word, by transformers alone."""
    model = GPTNeoXForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        predicted = model(tokens).logits.argmax(-1)
    return int((predicted[:, 31:63] == tokens[:, 32:]).all(1).sum())


@pytest.mark.slow
def test_checkpoints_from_labels_to_the_report(trained, tmp_path):
    folder, corpus = trained
    steps = sorted((*STEPS, 1, 55, 60))
    paths = ",".join(str(folder / f"step{step}") for step in steps)
    words = ("-m", "experiment=checkpoints", "llm=hf", "llm.name=tiny", "llm.revision=null", f"llm.path={paths}", "corpus=tables")
    words += ("corpus.name=small", f"corpus.path={corpus}", *QUICK, *SMALL, "select.min_eval_per_class=2")
    words += ("control.members=0", "cnn.epochs=1")
    told = memgrid_here(*words, f"root={tmp_path}", check=False)
    assert "tiny@step1 has the same weights as step0: they share labels and attention" in told.stdout
    assert "tiny@step140 has the same weights as step60" in told.stdout
    assert told.stdout.count(" share ") == 2 + 2, told.stdout  # step55 with the step before it, and with the last one

    tokens = torch.tensor(pl.read_parquet(corpus / "sequences.parquet")["tokens"].to_list())
    counted = {step: memorized_by_hand(folder / f"step{step}", tokens) for step in steps}
    marks = [read_json(path) for path in tmp_path.glob("labels/*/small/model.json")]
    assert len(marks) == len({mark["fingerprint"] for mark in marks}) == len(steps) - 2
    for path in tmp_path.glob("labels/*/small/model.json"):
        for name in read_json(path)["used_as"]:
            assert pl.read_parquet(path.parent / "memorized.parquet")["memorized"].sum() == counted[int(name.rpartition("step")[2])]

    memgrid_here(f"root={tmp_path}", module="report", seen=False)
    rows = pl.read_csv(tmp_path / "report" / "steps.csv").filter(pl.col("class") == "all")
    assert rows["step"].to_list() == [1, 20, 50, 55, 70, 90, 140]  # of equal weights the last step counts
    assert rows["memorized"].to_list() == [counted[step] for step in rows["step"]]
    assert rows.filter(pl.col("step") == 90)["forgotten"][0] > 10  # while it read something else
    onset = {row["class"]: row for row in pl.read_csv(tmp_path / "report" / "onset.csv").iter_rows(named=True)}
    assert onset["Guess"]["last"] >= 24  # the repetitions, and chunks whose halves are alike
    assert onset["all"]["interrupted"] > 10
    assert 140 in pl.read_csv(tmp_path / "report" / "steps-min-f1.csv")["step"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "step60 has the same weights as step140, and counts once, as step140" in page
    assert "step55 and step50 share" in page or "step50 and step55 share" in page
    shown = memgrid_here(f"root={tmp_path}", "state=failed", module="status").stdout.replace(" ", "").replace("\n", "")
    assert "tiny@step20/rasy/" in shown
