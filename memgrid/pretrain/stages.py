"""The three steps that make the embedded model: documents, model, sequences. Each leaves a file, and is skipped where that is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from memgrid.config.schema import LLMConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import is_usable, read_parquet, write_parquet
from memgrid.io.files import copy_file, reason, write_text
from memgrid.io.locks import exclusive
from memgrid.io.paths import TOY
from memgrid.lm.load import load_language_model
from memgrid.pretrain.config import PretrainConfig
from memgrid.pretrain.documents import END_OF_TEXT, build_documents, train_tokenizer, training_windows
from memgrid.pretrain.sequences import build_sequences
from memgrid.pretrain.sources import read_sources
from memgrid.pretrain.train import in_batches, train_model

UNFINISHED = ".model-"
WAIT_SECONDS = 1.0  # for a process that ends
WEIGHTS = "model.safetensors"
LIKELY = -1.0  # nats: a suffix whose log-probability in bfloat16 is below that is not continued word for word
# These tables are shipped: in large pages zstd finds the same text again.
SMALLEST: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "data_page_size": 1 << 25, "row_group_size": 1 << 13}


@dataclass(frozen=True)
class ModelFolder:
    """Where the embedded model is made, with the files that each step leaves."""

    path: Path

    @property
    def lock_file(self) -> Path:
        """Held by the process that makes the model."""
        return self.path / ".model.lock"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, written before the documents."""
        return self.path / "tokenizer.json"

    @property
    def documents(self) -> Path:
        """The corpus: a row per document, with its tokens and copies."""
        return self.path / "documents.parquet"

    @property
    def weights(self) -> Path:
        """The trained model, in float16."""
        return self.path / WEIGHTS

    @property
    def checkpoint(self) -> Path:
        """What a training that was cut off goes on from."""
        return self.path / "checkpoint.pt"

    @property
    def sequences(self) -> Path:
        """The sequences that the corpus offers."""
        return self.path / "sequences.parquet"


def log(line: str) -> None:
    """A line of progress, at once."""
    print(line, flush=True)


def pretrain(config: PretrainConfig) -> None:
    """Make whatever of documents, model and sequences is not in the folder yet.

    Raises:
        UserError: a text source is missing, or another process makes the same model.
    """
    folder = ModelFolder(Path(config.folder))
    with exclusive(folder.lock_file, WAIT_SECONDS):
        make_what_lacks(config, folder)


def make_what_lacks(config: PretrainConfig, folder: ModelFolder) -> None:
    """The same, where nobody else does it."""
    torch.set_num_threads(config.threads)
    for left in (*folder.path.glob(f"{UNFINISHED}*"), *folder.path.glob(f"step*/{UNFINISHED}*")):  # by a process that was killed
        shutil.rmtree(left)
    if not is_usable(folder.documents) or not folder.tokenizer.exists():  # both or none, as when a folder vanished meanwhile
        make_documents(config, folder)
    tokenizer = read_tokenizer(folder)
    documents = read_parquet(folder.documents)
    if not folder.weights.exists():
        make_model(config, documents, tokenizer, folder)
    if not is_usable(folder.sequences):
        make_sequences(config, documents, tokenizer, folder)


def read_tokenizer(folder: ModelFolder) -> Tokenizer:
    """The tokenizer that the documents were made with.

    Raises:
        DamagedError: its file is missing or cannot be read.
    """
    try:
        return Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # the library has no error of its own
        raise DamagedError(folder.tokenizer, reason(error), f"remove it and {folder.documents.name}, and run again") from None


def make_documents(config: PretrainConfig, folder: ModelFolder) -> None:
    """Tokenizer and documents, from the package or from the text sources; the documents come last."""
    if config.documents == "shipped":
        for path in (folder.tokenizer, folder.documents):
            copy_file(TOY / path.name, path)
        return
    try:
        texts = read_sources(config.sources, config.characters, config.seed)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    tokenizer = train_tokenizer((text for documents in texts.values() for text in documents), config.model.vocab_size)
    write_text(as_in_transformers(tokenizer).backend_tokenizer.to_str(pretty=True), folder.tokenizer)
    documents = build_documents(texts, tokenizer, config.mix, config.length, config.seed)
    write_parquet(documents, folder.documents, **SMALLEST)


def as_in_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """As transformers has it: so its file says the same whether the documents were made last or the model."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)


def make_model(config: PretrainConfig, documents: pl.DataFrame, tokenizer: Tokenizer, folder: ModelFolder) -> None:
    """Train, and save in float16, at the steps that are asked for too; a model of few `windows` is a trial."""
    windows, until = training_windows(documents, config.length, config.reference)
    if config.windows is not None:
        some = np.random.default_rng(config.seed).permutation(len(windows))[: config.windows]
        windows, until = windows[some], until[some]
    batches = in_batches(windows, until, config.optimizer.batch_size, config.seed)
    if late := [step for step in config.steps if not 0 < step < len(batches)]:
        raise UserError(f"steps={late[0]} is none at which a model can be kept: this training has {len(batches)}, the last of which is")

    def keep(step: int, model: GPTNeoXForCausalLM) -> None:
        save_model(model, tokenizer, folder.path / f"step{step}")

    model = train_model(batches, config, folder.checkpoint, log, {step: partial(keep, step) for step in config.steps})
    save_model(model, tokenizer, folder.path)


def save_model(model: GPTNeoXForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """A copy of the model in float16 with its tokenizer; the weights come last: they say that the others are there."""
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=UNFINISHED) as unfinished:
        as_in_transformers(tokenizer).save_pretrained(unfinished)
        deepcopy(model).cpu().half().save_pretrained(unfinished)
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == WEIGHTS):
            copy_file(file, folder / file.name)


def make_sequences(config: PretrainConfig, documents: pl.DataFrame, tokenizer: Tokenizer, folder: ModelFolder) -> None:
    """Read the streams with the trained model, and leave the sequences that the corpus offers."""
    sequences = build_sequences(
        documents, tokenizer, reader_of(folder.path, config.k, config.length), config.offer, config.length, config.seed
    )
    write_parquet(sequences, folder.sequences, **SMALLEST)
    log(str(sequences.group_by("kind").len().sort("kind")))


def reader_of(folder: Path, k: int, length: int) -> Callable[[np.ndarray], np.ndarray]:
    """Tells for tokens, int64 (batch, length), which of them the model in `folder` continues word for word, bool (batch,)."""
    lm = load_language_model(LLMConfig(name="toy", path=str(folder)), length)

    def extractable(tokens: np.ndarray) -> np.ndarray:
        """Whether each sequence is, bool (batch,)."""
        # bfloat16 finds the candidates twice as fast; float32, which labels are made in, decides.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            likely = lm.score(tokens, k).suffix_logprob > LIKELY
        answers = np.zeros(len(tokens), bool)
        if likely.any():
            answers[likely] = lm.score(tokens[likely], k).memorized
        return answers

    return extractable
