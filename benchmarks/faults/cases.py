"""The commands that write, each tiny, and what must be on disk before it."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.utils.logging import disable_progress_bar

from memgrid.config.schema import LLMConfig
from memgrid.io.paths import TOY
from memgrid.lm.load import load_language_model

K = 8  # tokens of a prefix, and of a suffix
# Sequences of each class of `recite_or_guess`: of text that the model does not continue, with many copies, and with one.
PER_CLASS = 24
SOURCE_TEXTS = 12  # of each source: a fifth of a second in labelling
SHAPE = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SMALL_RUN = (
    "cnn=single",
    "cnn.epochs=4",
    "cnn.kernel_size=3",
    f"corpus.k={K}",
    f"corpus.length={2 * K}",
    "taxonomy=recite_or_guess",
    "llm=hf",
    "llm.name=small",
    "llm.path=GIVEN/model",
    "select.train_per_class=12",
    "select.eval_per_class=4",
    "select.min_train_per_class=4",
    "select.min_eval_per_class=2",
    "llm.batch_tokens=1024",
    "extract.shard_samples=8",
    "trainer.progress=false",
    "trainer.threads=1",
    "localize.samples=2",
    "localize.sanity=1",
    "intervene.percent=[10]",
    "intervene.seeds=1",
    "intervene.samples=4",
    "intervene.ordinary=2",
    "intervene.layers_at=null",
    "intervene.unit=[positions,heads]",
    "intervene.numbers=[1]",
)
SMALL_AUDIT = (
    "shadows=4",
    "model.epochs=2",
    "model.checkpoint_epochs=1",
    "canary.count=60",
    "predictors.directions=20",
    "trainer.progress=false",
    "wandb=off",
)
SMALL_MODEL = (
    "documents=sources",
    "model.hidden_size=16",
    "model.num_hidden_layers=2",
    "model.intermediate_size=32",
    "model.num_attention_heads=2",
    "model.vocab_size=600",
    "optimizer.checkpoint_every=2",
    "mix={seldom_chunks: 2, seldom_copies: [1, 2], middle_chunks: 2, middle_copies: [3, 4], often_chunks: 4, often_copies: [5, 6], "
    "most_chunks: 2, most_copies: [7, 8], near_duplicates: 2, near_copies: [3, 4], once: 10, held_out: 10, "
    "repeats: 20, increments: 20, often_repeats: 5, often_increments: 5, often_template_copies: [2, 4]}",
    *(f"offer.often_{kind}s=5" for kind in ("repeat", "increment")),
    *(f"offer.{part}_{kind}s=5" for part in ("seen", "renamed", "unseen") for kind in ("repeat", "increment")),
    "windows=256",
    "threads=1",
)


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        module: `python -m memgrid.<module>` is it; words: what is typed after it, where ROOT and GIVEN stand for folders: that in which it
            writes, and that of what it is given and only reads.
        after: the case whose outcome it starts from; None: from an empty folder. prepared: what is done to that before.
        once: what is done is refused a second time, as files that it would have to overwrite are there.
    """

    name: str
    module: str
    words: tuple[str, ...]
    after: str | None = None
    prepared: Callable[[Path], object] | None = None
    once: bool = False

    def typed(self, root: Path, given: Path) -> list[str]:
        """The words for two folders; STORED stands for the sequences whose attention is there, and RUN for the folder of the run."""
        if any("STORED" in word for word in self.words):
            ids: set[int] = set()
            for path in root.rglob("*.h5"):
                with h5py.File(path, locking=False) as shard:
                    ids.update(shard["sequence_id"][:].tolist())
            words = [word.replace("STORED", ",".join(map(str, sorted(ids)))) for word in self.words]
            return replace(self, words=tuple(words)).typed(root, given)
        run = next((str(path.parent) for path in root.glob("runs/**/metrics.json")), "RUN")
        return [word.replace("ROOT", str(root)).replace("GIVEN", str(given)).replace("RUN", run) for word in self.words]


def of_run(name: str, stages: str, after: str | None, *more: str) -> Case:
    """Stages of a run over tables."""
    corpus = ("corpus=tables", "corpus.name=small", "corpus.path=GIVEN/tables")
    return Case(name, "run", (*corpus, *SMALL_RUN, "wandb=off", f"stages=[{stages}]", "root=ROOT", *more), after)


def of_taxonomy(name: str, taxonomy: str, after: str | None = None, *more: str) -> Case:
    """Labels for another taxonomy."""
    whole = of_run(name, "label", after, f"taxonomy={taxonomy}", *more)
    return replace(whole, words=tuple(word for word in whole.words if word != "taxonomy=recite_or_guess"))


def stop(root: Path) -> None:
    """Leave of a finished run what is there while its training goes on."""
    for path in root.glob("runs/**/metrics.json"):
        path.unlink()


def put_into(root: Path, name: str) -> None:
    """Move all that a root holds into a folder there, so that something may lie beside it."""
    held = list(root.iterdir())
    (root / name).mkdir()
    for path in held:
        path.rename(root / name / path.name)


def of_audit(name: str, stages: str, after: str | None) -> Case:
    """Stages of an audit."""
    return Case(name, "audit", (*SMALL_AUDIT, f"stages=[{stages}]", "root=ROOT"), after)


REFERENCE = "llm.reference=GIVEN/model"
EVERY_STAGE = "label,extract,train,localize,intervene"
STORE = "ROOT/attention/small/small"
SOURCES = [
    f"sources.{name}=GIVEN/{path}"
    for name, path in (("kjv", "kjv.jsonl"), ("web", "web"), ("python_docs", "docs"), ("python_code", "code"))
]
TEXT = ("corpus=text", "corpus.name=mine", "corpus.path=GIVEN/docs")
CASES = {
    case.name: case
    for case in (
        Case("text", "run", (*TEXT, *SMALL_RUN, "wandb=off", "stages=[label]", "root=ROOT")),
        of_run("label", "label", None),
        of_run("label, fused", "label", None, "extract.fused=true"),
        of_taxonomy("label, near", "near_verbatim"),
        of_taxonomy("label, reference", "counterfactual", None, REFERENCE),
        of_run("extract", "extract", "label"),
        of_run("train", "train", "extract"),
        of_run("train, wandb offline", "train", "extract", "wandb=offline"),
        of_run("localize", "localize", "train"),
        of_run("intervene", "intervene", "localize"),
        of_run("transfer", "transfer", "intervene", "transfer.from=RUN"),
        of_run("every stage", EVERY_STAGE, None),
        of_run("labels again", "label,extract", "extract"),
        of_taxonomy("labels of edits again", "near_verbatim", "label, near"),
        of_taxonomy("labels of a reference again", "counterfactual", "label, reference", REFERENCE),
        of_run("a finished run again", EVERY_STAGE, "intervene"),
        of_run("a transfer again", "transfer", "transfer", "transfer.from=RUN"),
        Case("text again", "run", (*TEXT, *SMALL_RUN, "wandb=off", "stages=[label]", "root=ROOT"), "text"),
        Case("report", "report", ("root=ROOT",), "transfer"),
        Case("tracking sync", "tracking", ("sync", "root=ROOT"), "train, wandb offline"),
        Case("store export", "store", ("export", f"folder={STORE}", "ids=STORED", "out=ROOT/out/some.h5"), "extract", once=True),
        Case(
            "export", "__main__", ("export", "ROOT/runs-of-mine", "out=ROOT/out"), "intervene", lambda root: put_into(root, "runs-of-mine")
        ),
        Case("status forget", "status", ("forget=stopped", "root=ROOT"), "train", stop),
        of_audit("audit prepare", "prepare", None),
        of_audit("audit train", "train", "audit prepare"),
        of_audit("audit attack", "attack", "audit train"),
        of_audit("audit report", "report", "audit attack"),
        Case("pretrain", "pretrain", (*SMALL_MODEL, *SOURCES, "folder=ROOT")),
        Case("pretrain again", "pretrain", (*SMALL_MODEL, *SOURCES, "folder=ROOT"), "pretrain"),
    )
}

# Those that are disturbed: the others are the same commands started again.
WRITING = (
    "text",
    "label",
    "label, fused",
    "label, near",
    "label, reference",
    "extract",
    "train",
    "train, wandb offline",
    "localize",
    "intervene",
    "transfer",
    "report",
    "export",
    "store export",
    "audit prepare",
    "audit train",
    "audit attack",
    "audit report",
    "pretrain",
)


def make_given(folder: Path) -> None:
    """What the commands are given: a model, sequences of which it continues some exactly, and text as sources of a model."""
    folder.mkdir()
    documents = pl.read_parquet(TOY / "documents.parquet").filter(pl.col("kind") == "stream")
    make_model(folder / "model")
    make_tables(folder / "tables", folder / "model", documents)
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    streams = documents.filter(pl.col("tokens").list.len() > 640)
    texts = {
        source: [tokenizer.decode(t.to_list()) for t in streams.filter(pl.col("source") == source)["tokens"].head(SOURCE_TEXTS)]
        for source in ("kjv", "python_docs", "python_code")
    }
    verses = [json.dumps({"book": f"Book {number // 3}", "text": line}) for number, line in enumerate(texts["kjv"])]
    (folder / "kjv.jsonl").write_text("\n".join(verses))
    (folder / "web").mkdir()
    for testament, text in zip(("ot", "nt"), texts["kjv"], strict=False):
        packed = zlib.compress(text.encode())
        (folder / "web" / f"{testament}.bzs").write_bytes(struct.pack("<III", 0, len(packed), len(text)))
        (folder / "web" / f"{testament}.bzz").write_bytes(packed)
    for name, source, ending in (("docs", "python_docs", "rst.txt"), ("code", "python_code", "py")):
        (folder / name).mkdir()
        for number, text in enumerate(texts[source]):
            (folder / name / f"{number}.{ending}").write_text(text)


def make_model(folder: Path) -> None:
    """A model with random weights and the embedded tokenizer, so small that a command takes a second."""
    torch.manual_seed(0)
    disable_progress_bar()
    GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOY / name, folder)


def make_tables(folder: Path, model: Path, documents: pl.DataFrame) -> None:
    """Sequences and training documents: what a model with random weights says of a prefix is what it would have memorized."""
    text = np.array([tokens[: 2 * K] for tokens in documents["tokens"].to_list() if len(tokens) >= 2 * K][: 3 * PER_CLASS])
    lm = load_language_model(LLMConfig(name="small", path=str(model)))
    said = np.concatenate([text[:, :K], lm.continue_greedily(text[:, :K], K)], axis=1)
    tokens = [*text[:PER_CLASS].tolist(), *said[PER_CLASS:].tolist()]
    copies = [0] * PER_CLASS + [90] * PER_CLASS + [1] * PER_CLASS
    folder.mkdir()
    pl.DataFrame({"sequence_id": range(len(tokens)), "tokens": tokens}).write_parquet(folder / "sequences.parquet")
    pl.DataFrame({"tokens": tokens, "copies": copies}).write_parquet(folder / "documents.parquet")
