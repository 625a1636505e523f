"""The three steps from free text to the embedded model: documents, model, sequences; each is skipped when its file is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io.paths import TOY
from memgrid.lm.load import load_language_model
from memgrid.pretrain.config import PretrainConfig
from memgrid.pretrain.documents import END_OF_TEXT, build_documents, train_tokenizer, training_windows
from memgrid.pretrain.sequences import build_sequences
from memgrid.pretrain.sources import read_sources
from memgrid.pretrain.train import train_model


def log(line: str) -> None:
    """A line of progress, at once."""
    print(line, flush=True)


def pretrain(config: PretrainConfig) -> None:
    """Make whatever of documents, model and sequences is not in the folder yet.

    Raises:
        UserError: a text source is missing.
    """
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    if not (folder / "documents.parquet").exists():
        make_documents(config, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    documents = pl.read_parquet(folder / "documents.parquet")
    if not (folder / "model.safetensors").exists():
        make_model(config, documents, tokenizer, folder)
    if not (folder / "sequences.parquet").exists():
        lm = load_language_model(LLMConfig(name="toy", path=str(folder)))

        def extractable(tokens: np.ndarray) -> np.ndarray:
            """Whether the model continues each sequence word for word, bool (batch,)."""
            # bfloat16 finds the candidates twice as fast; float32, which labels are made in, decides.
            with torch.autocast("cpu", dtype=torch.bfloat16):
                likely = lm.score(tokens, config.k).suffix_logprob > -1.0
            answer = np.zeros(len(tokens), bool)
            if likely.any():
                answer[likely] = lm.score(tokens[likely], config.k).memorized
            return answer

        sequences = build_sequences(documents, tokenizer, extractable, config.offer, config.length, config.seed)
        sequences.write_parquet(folder / "sequences.parquet", compression="zstd", compression_level=19)
        log(str(sequences.group_by("kind").len().sort("kind")))


def make_documents(config: PretrainConfig, folder: Path) -> None:
    """Tokenizer and documents, from the package or from the text sources; the documents come last."""
    if config.documents == "shipped":
        for name in ("tokenizer.json", "documents.parquet"):
            shutil.copyfile(TOY / name, folder / name)
        return
    try:
        texts = read_sources(config.sources, config.characters, config.seed)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    tokenizer = train_tokenizer((text for documents in texts.values() for text in documents), config.model.vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    documents = build_documents(texts, tokenizer, config.mix, config.length, config.seed)
    documents.write_parquet(folder / "documents.parquet", compression="zstd", compression_level=19)


def make_model(config: PretrainConfig, documents: pl.DataFrame, tokenizer: Tokenizer, folder: Path) -> None:
    """Train, and save in float16; a model of few `windows` is a trial."""
    windows = training_windows(documents, config.length)
    if config.windows is not None:
        windows = windows[np.random.default_rng(config.seed).permutation(len(windows))[: config.windows]]
    model: GPTNeoXForCausalLM = train_model(windows, config.model, config.optimizer, config.seed, folder, log)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT).save_pretrained(folder)
    model.half().save_pretrained(folder)
