"""The record of a transfer: it comes back as it was written, says when it is done, and what it found in sentences."""

import json
from dataclasses import replace

import pytest
from conftest import refusal
from runs_maker import Run, finish, rewrite
from settings_maker import composed
from transfers_maker import add_transfer, made_record

from memgrid.results.findings import of_later_stages, stage_sentences
from memgrid.results.folder import RunFolder
from memgrid.results.records import refuse_rivals
from memgrid.results.transfers.sentences import sentences, verdict


@pytest.fixture
def runs(tmp_path):
    """Three finished runs that differ in their seeds."""
    runs = [Run(tmp_path, "m", seed=seed) for seed in range(3)]
    for run in runs:
        finish(run)
    return runs


def asks(run, **changes):
    """The settings of a start that asks for the transfer of all to a run."""
    settings = composed("stages=[transfer]", "transfer.from='m/rasy/*'", f"root={run.runs.parent}")
    return replace(settings, **changes)


def test_it_comes_back_as_it_was_written(runs):
    own, *others = runs
    folder, record = RunFolder(own.folder), add_transfer(own, others, known=3)
    assert replace(folder.transfer_record(), memgrid="") == record
    assert [one.source.seed for one in record.transfers] == [1, 2]
    assert record.transfers[0].known == [3, 3, 3]
    plain = json.loads(folder.transfers.read_text())
    assert list(plain)[-1] == "digest"
    assert plain["transfers"][0]["classifiers"]["panel"]["scores"]["min_f1"]["mean"] == record.transfers[0].panel.scores.min_f1.mean


def test_it_is_done_until_a_source_or_the_run_changes(runs):
    own, *others = runs
    folder, run = RunFolder(own.folder), asks(own)
    assert folder.undone(run) == ["transfer"]
    add_transfer(own, others)
    assert folder.undone(run) == []
    assert folder.undone(replace(run, transfer={"from": [str(others[0].folder)]})) == ["transfer"]
    assert folder.undone(replace(run, transfer={"from": [str(other.folder) for other in others]})) == []
    finish(Run(own.runs.parent, "m", seed=7))  # a pattern means it, too
    assert folder.undone(run) == ["transfer"]
    named = replace(run, transfer={"from": [str(other.folder) for other in others]})
    rewrite(others[0].folder, eval_loss=0.123)
    assert folder.undone(named) == ["transfer"]
    add_transfer(own, others)
    assert folder.undone(named) == []
    (others[1].folder / "metrics.json").unlink()
    assert folder.undone(named) == ["transfer"]


def test_one_that_is_damaged_is_a_sentence_and_not_done(runs):
    own, *others = runs
    folder = RunFolder(own.folder)
    add_transfer(own, others)
    folder.transfers.write_bytes(folder.transfers.read_bytes().replace(b'"permutations": 999', b'"permutations": 998'))
    assert refusal(folder.transfer_record) == f"{folder.path}: its transfer.json is damaged: do the stage transfer again"
    assert folder.undone(asks(own)) == ["transfer"]
    assert of_later_stages(folder) == []


def test_two_of_one_sweep_would_take_each_others_place(runs):
    both = [replace(asks(runs[0]), transfer={"from": name}) for name in ("a", "b")]
    said = refusal(refuse_rivals, both, lambda run, stage: runs[0].folder / "transfer.json")
    assert said.startswith("transfer.from=a and transfer.from=b of the same run cannot be swept over")
    # The method of localization has nothing to do with it.
    other = replace(both[0], localize=replace(both[0].localize, method="gradient"))
    refuse_rivals([both[0], other], lambda run, stage: runs[0].folder / "transfer.json")


def test_sentences_have_the_numbers_and_the_verdict(runs):
    own, *others = runs
    add_transfer(own, others, known=2, layers=12, remark="its classes are defined otherwise")
    told = stage_sentences(asks(own), RunFolder(own.folder))
    record = RunFolder(own.folder).transfer_record()
    first, score = record.transfers[0], record.transfers[0].panel.scores.min_f1
    assert verdict(first) == "transfers, no loss seen"
    assert told[0].startswith(
        f"What the networks of m · rasy · seed 1 learned transfers, no loss seen: min-F1 {score.mean:.1f} "
        f"({score.low:.1f}–{score.high:.1f}) on 60 eval samples (6 that it was trained on, or "
        "near-duplicates of such, are left out), more than chance (p = 0.002, 999 permutations"
    )
    assert f"that is {first.panel.ratio:.0f} % of this run's own {first.panel.own.min_f1.mean:.1f}" in told[0]
    assert told[1].startswith("Fitted there and tried here, the best linear probe (linear-mean) reaches ")
    assert "the best of what needs no attention (to" in told[1]
    assert told[2] == "Its model has 12 layers and this one's 6: maps were resampled by relative depth."
    assert told[3] == "Its classes are defined otherwise."
    assert of_later_stages(RunFolder(own.folder)) == told


def test_what_is_no_more_than_chance_is_not_seen_to_transfer(runs):
    own, *others = runs
    record = made_record(own, others, weight=0.0)
    assert {verdict(one) for one in record.transfers} == {"not seen to transfer"}
    told = sentences(record)
    assert "learned is NOT seen to transfer: min-F1" in told[0]
    assert "not more than chance (p = " in told[0]
    assert told[1].startswith("They do NOT tell apart Non-Memo and Guess, ")


def test_what_loses_points_transfers_with_a_loss(runs):
    own, *others = runs
    record = made_record(own, others, weight=0.35)
    assert verdict(record.transfers[0]) == "transfers with a loss"
    assert record.transfers[0].difference.high < 0
    passed = replace(record, passed_over={"runs/a": "has the classes A"})
    assert sentences(passed)[-1] == "1 finished run could not be tried: runs/a has the classes A."
