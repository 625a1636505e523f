"""What a run hands over to other tools is what it measured: its own table comes out again, read by hooks on the model's patterns."""

import copy
import json
import re
import shlex
import shutil
from pathlib import Path

import forks
import numpy as np
import polars as pl
import pytest
import torch
from conftest import memgrid_here, refusal
from plain_hooks import read_hooked

import memgrid
from memgrid.intervene.attention.masking import masking
from memgrid.intervene.attention.reader import suffix_scores
from memgrid.intervene.positions import candidates
from memgrid.intervene.units import switchable
from memgrid.io.digests import read_table, write_json, write_parquet
from memgrid.results.folder import RunFolder, folders_below

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"
WHERE = (
    *("localize.samples=6", "localize.sanity=2", "intervene.unit=[positions,heads,layers]", "intervene.numbers=[1,3]"),
    *("intervene.percent=[30]", "intervene.seeds=1", "intervene.samples=3", "intervene.ordinary=2", "intervene.layers_at=null"),
)
FIRST = {"heads": "attribution", "layers": "ablation", "positions": "target"}


@pytest.fixture(scope="module")
def where(caused, quick, tmp_path_factory):
    """A root in which the run of `caused` has switched off positions, heads and layers, few of each."""
    root = tmp_path_factory.mktemp("where") / "root"
    shutil.copytree(caused, root, ignore=shutil.ignore_patterns(".lock"), symlinks=True)
    memgrid_here(*quick, *WHERE, f"root={root}", "stages=[localize,intervene]")
    return root


@pytest.fixture(scope="module")
def run(where):
    (folder,) = folders_below(where)
    return memgrid.open_run(folder)


@pytest.fixture
def another(where, tmp_path):
    """A copy of the run, to be changed before it is opened."""
    root = shutil.copytree(where, tmp_path / "root", ignore=shutil.ignore_patterns(".lock"), symlinks=True)
    (folder,) = folders_below(root)
    return folder


def amount(row):
    """How much of its unit a row of the trials switches off, as it is asked for."""
    return {"percent": row["q"]} if row["unit"] == "positions" else {"number": row["units"]}


def by_hand(lm):
    return lambda tokens, hooks: read_hooked(lm.model, tokens, hooks)


def by_transformer_lens(lm):
    """Its bridge makes another model of what it is given."""
    pytest.importorskip("transformer_lens")
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers("toy", hf_model=copy.deepcopy(lm.model), tokenizer=lm.tokenizer, device="cpu")

    def read(tokens, hooks):
        with torch.inference_mode():
            return bridge.run_with_hooks(tokens, fwd_hooks=hooks)

    return read


def by_nnsight(lm):
    nnsight = pytest.importorskip("nnsight")
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    wrapped = nnsight.NNsight(model)

    def read(tokens, hooks):
        with torch.no_grad(), wrapped.trace(tokens):
            for _, function in hooks:
                eager = wrapped.gpt_neox.layers[function.layer].attention.source.attention_interface_1.source
                eager.nn_functional_dropout_0.output = function(eager.nn_functional_dropout_0.output)
            found = wrapped.output.logits.save()
        return found.detach()

    return read


@pytest.mark.parametrize("tool", [by_hand, by_transformer_lens, by_nnsight])
def test_the_table_of_trials_comes_out_again(run, toy_lm, tool):
    read, corpus = tool(toy_lm), run.corpus
    ids = json.loads(read_table(run.folder.intervention)[1]["memgrid"])["ids"]
    handed = run.trials.filter(pl.col("masked").is_in(["target", "attribution", "ablation", "delta", "none"]))
    assert handed.height >= len(ids) * (3 + 1 + 6 + 6)
    for row in handed.iter_rows(named=True):
        tokens = torch.from_numpy(corpus.tokens[corpus.rows_of(np.array(ids[row["class"]]))]).long()
        nothing = row["masked"] == "none"
        hooks = [] if nothing else run.hooks(row["class"], row["unit"], row["masked"], **amount(row))
        logits = read(tokens, hooks)[:, corpus.k - 1 : -1]
        kept, logprob = suffix_scores(logits, tokens[:, corpus.k :])
        assert float(logprob.mean(dtype=torch.float64)) == pytest.approx(row["suffix_logprob"], abs=1e-4)
        assert kept.tolist() == row["kept"]
        assert nothing is (not hooks)


@pytest.mark.parametrize("unit", ["heads", "layers"])
def test_the_chosen_are_the_first_of_the_table_of_units(run, unit):
    for title in run.trials["class"].unique():
        rows = run.units.filter(pl.col("class") == title, unit=unit)
        for way in ("attribution", "ablation", "delta"):
            chosen = run.chosen(title, unit, way, 3)
            assert chosen.columns == (["layer", "head"] if unit == "heads" else ["layer"]) + ["worth", "hook"]
            assert chosen["worth"].to_list() == rows[way].sort(descending=True)[:3].to_list()
            counted = chosen.with_columns(pl.col("layer", *(["head"] if unit == "heads" else [])) + 1)
            found = counted.join(rows, on=chosen.columns[:-2], maintain_order="left")
            assert found[way].to_list() == chosen["worth"].to_list()
            assert chosen["hook"].to_list() == [f"blocks.{layer}.attn.hook_pattern" for layer in chosen["layer"]]
            assert {name for name, _ in run.hooks(title, unit, way, 3)} == set(chosen["hook"])
            assert run.chosen(title, unit, way, rows.height).head(3).equals(chosen)
        assert run.chosen(title, unit, number=3).equals(run.chosen(title, unit, FIRST[unit], 3))


def test_equals_come_in_the_order_in_which_the_trials_took_them(another):
    """It is drawn from the number of the class."""
    table, metadata = read_table(another / "intervene-units.parquet")
    write_parquet(table.with_columns(attribution=0.0), another / "intervene-units.parquet", metadata={"memgrid": metadata["memgrid"]})
    run = memgrid.open_run(another)
    for label, title in ((1, "Guess"), (2, "Recall")):
        chosen = run.chosen(title, "heads", "attribution", 5)
        order = np.random.default_rng(label).permutation(48).argsort()
        assert (chosen["layer"] * 8 + chosen["head"]).to_list() == order[:5].tolist()


def test_the_chosen_positions_are_those_of_the_decision_map(run):
    chosen, delta = run.chosen("Recall", "positions", percent=3), run.decision_maps()["Recall"]
    assert chosen.columns == ["layer", "query", "key", "worth", "hook"]
    assert (delta[tuple(chosen[axis].to_numpy() for axis in ("layer", "query", "key"))] == chosen["worth"].to_numpy()).all()
    off = np.zeros(delta.shape, bool)
    for layer, query, key in chosen.select("layer", "query", "key").iter_rows():
        off[layer, query, key] = True
    hooks = run.hooks("Recall", "positions", percent=3)
    assert [function.layer for _, function in hooks] == sorted(set(chosen["layer"]))
    for _, function in hooks:
        assert (function.mask.layers[function.layer].numpy() == off[function.layer]).all()


@pytest.mark.parametrize(("replace", "queries"), [("zero", "all"), ("renormalise", "all"), ("zero", "suffix")])
def test_what_goes_with_a_head_is_as_the_run_was_set(another, replace, queries):
    set_to(another, replace=replace, queries=queries)
    ((_, function),) = (run := memgrid.open_run(another)).hooks("Recall", number=1)
    (head,) = run.chosen("Recall", number=1)["head"]
    off = function.mask.layers[function.layer].numpy()
    assert (off[head] == switchable(candidates(6, 64, 32, queries), replace)[function.layer]).all()
    assert off.sum() == off[head].sum()
    assert function.mask.replace == replace


def set_to(folder, **settings):
    """Change with what settings a run says that it was made."""
    path = folder / "intervene.json"
    record = json.loads(path.read_text())
    record["settings"] |= settings
    write_json({key: value for key, value in record.items() if key != "digest"}, path)


def test_after_bos_the_mask_stands_behind_it(another):
    usual = memgrid.open_run(another).hooks("Recall", number=1)[0][1]
    run = memgrid.open_run(another)
    run.settings.corpus.bos = True
    function = run.hooks("Recall", number=1)[0][1]
    off = function.mask.layers[function.layer]
    assert torch.equal(off[:, 1:, 1:], usual.mask.layers[function.layer])
    assert not off[:, 0].any()
    assert not off[:, :, 0].any()


def test_votes_and_the_most_attentive_heads_are_the_runs(another):
    set_to(another, average="votes", heads=2)
    run = memgrid.open_run(another)
    hooks = run.hooks("Recall", "positions", percent=3)
    assert {function.mask.heads for _, function in hooks} == {2}
    assert {function.mask.heads for _, function in run.hooks("Recall", number=1)} == {None}
    assert run.chosen("Recall", "positions", percent=3)["worth"].min() > 0.5  # ranks among all positions


def test_what_cannot_be_handed_over_is_told_in_a_sentence(run):
    assert "there is no class 'Recite': use Non-Memo, Guess, Recall" in refusal(run.hooks, "Recite")
    assert "there is no unit 'neurons': use positions, heads, layers" in refusal(run.hooks, "Recall", "neurons")
    assert "no heads were switched off for Non-Memo" in refusal(run.chosen, "Non-Memo", "heads", None, 1)
    assert "there is no way 'target' to choose heads: use attribution, ablation, delta" in refusal(
        run.hooks, "Recall", "heads", "target", 1
    )
    assert "cannot be handed over by 'attended': use target" in refusal(run.hooks, "Recall", "positions", "attended", None, 3)
    for number in (0, 49, -1, 1.5, None, "3"):
        assert f"number={number} does not say how many heads: use number=, from 1 to 48" in refusal(
            run.hooks, "Recall", "heads", None, number
        )
    assert "number=7 does not say how many layers: use number=, from 1 to 6" in refusal(run.chosen, "Recall", "layers", None, 7)
    assert "percent=3 does not say how many heads" in refusal(run.hooks, "Recall", "heads", None, None, 3)
    for percent in (0, 101, None, float("nan")):
        assert f"percent={percent} does not say which positions" in refusal(run.hooks, "Recall", "positions", None, None, percent)
    assert "number=3 does not say which positions" in refusal(run.hooks, "Recall", "positions", None, 3)


def test_units_that_were_not_switched_off_name_the_command(another, done):
    table = RunFolder(another).intervention
    write_parquet(pl.read_parquet(table).filter(pl.col("unit") == "positions"), table)
    run = memgrid.open_run(another)
    assert run.hooks("Recall", "positions", percent=5)
    for unit in ("heads", "layers"):
        sentence = refusal(run.hooks, "Recall", unit, None, 1)
        assert f"has no intervention on {unit}" in sentence
        words = shlex.split(re.search(r"`(python -m memgrid\.run[^`]*)`", sentence)[1])
        assert words[-2:] == ["intervene.unit=[positions,heads,layers]", "stages=[localize,intervene]"]
    (folder,) = folders_below(done)
    assert "has no intervention: run `python -m memgrid.run" in refusal(memgrid.open_run(folder).hooks, "Recall")


def test_a_mean_and_newer_maps_cannot_be_handed_over(another):
    set_to(another, replace="mean")
    run = memgrid.open_run(another)
    assert run.chosen("Recall", number=2).height == 2
    assert "intervene.replace=renormalise" in refusal(run.hooks, "Recall", "heads", None, 2)
    record = json.loads((another / "intervene.json").read_text())
    write_json({**{key: value for key, value in record.items() if key != "digest"}, "inputs": "0" * 64}, another / "intervene.json")
    assert "is newer than the intervention" in refusal(memgrid.open_run(another).chosen, "Recall", "heads", None, 2)
    (another / "localize-guided.h5").unlink()
    assert "has no decision maps by guided" in refusal(memgrid.open_run(another).chosen, "Recall", "heads", None, 2)


def test_a_table_older_than_heads_has_positions(another):
    table, metadata = read_table(another / "intervene.parquet")
    older = table.filter(unit="positions").drop("unit")
    write_parquet(older, another / "intervene.parquet", metadata={"memgrid": metadata["memgrid"]})
    run = memgrid.open_run(another)
    assert run.hooks("Recall", "positions", percent=3)
    assert "has no intervention on heads" in refusal(run.hooks, "Recall", "heads", None, 1)


@pytest.mark.parametrize("replace", ["renormalise", "zero"])
@pytest.mark.parametrize("processed", [False, True])
def test_transformer_lens_reads_the_same_with_its_own_weights(another, toy_lm, processed, replace):
    """Processed weights shift all logits of a token by one number; biases of values, where the page says so, stay where they are."""
    pytest.importorskip("transformer_lens")
    from transformer_lens.model_bridge import TransformerBridge

    set_to(another, replace=replace, queries="all")
    run = memgrid.open_run(another)
    bridge = TransformerBridge.boot_transformers("toy", hf_model=copy.deepcopy(toy_lm.model), tokenizer=toy_lm.tokenizer, device="cpu")
    if processed:
        bridge.enable_compatibility_mode(fold_value_biases=replace == "renormalise")
    tokens = torch.from_numpy(run.corpus.tokens[:3]).long()
    for unit, many in (("heads", {"number": 9}), ("layers", {"number": 2}), ("positions", {"percent": 30})):
        hooks = run.hooks("Recall", unit, **many)
        usual, expected = (of_mask(toy_lm, tokens, mask) for mask in (None, hooks[0][1].mask))
        with torch.inference_mode():
            made = bridge.run_with_hooks(tokens, fwd_hooks=hooks).log_softmax(-1)
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
        assert (usual - expected).abs().max() > 1


def of_mask(lm, tokens, mask):
    """Log-probabilities of all tokens under a mask of memgrid's own."""
    with torch.inference_mode(), masking(lm.model, mask):
        return lm.model(input_ids=tokens, use_cache=False).logits.log_softmax(-1)


@pytest.mark.parametrize("tool", ["torch", "transformer_lens", "nnsight"])
def test_the_recipes_of_the_page(run, toy_lm, tool, tmp_path):
    """From a file: nnsight reads its own lines there."""
    pytest.importorskip(tool)
    section = PAGE.read_text().split("\n## Other tools\n")[1].split("\n## ")[0]
    names, path = {"run": run}, tmp_path / "recipe.py"
    for language, block in re.findall(r"^```(python|py)\n(.*?)^```$", section, re.M | re.S):
        if language == "python" or f"from {tool}" in block:
            path.write_text(block)
            exec(compile(block, path, "exec"), names)
    expected = of_mask(toy_lm, names["tokens"], names["hooks"][0][1].mask)
    torch.testing.assert_close(names["logits"].detach().log_softmax(-1), expected, atol=1e-4, rtol=0)


def test_what_is_chosen_is_read_without_torch(run):
    code = f"""import sys, memgrid
run = memgrid.open_run({str(run.folder.path)!r})
run.chosen("Recall", number=2); run.chosen("Recall", "positions", percent=3)
assert not {{"torch", "transformers"}} & set(sys.modules)"""
    done = forks.run(["-c", code], light=True)
    assert done.returncode == 0, done.stderr
