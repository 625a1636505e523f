"""`python -m memgrid.pretrain`: make the embedded model again, from free text to the files in `memgrid/assets/toy`.

Three steps, each skipped when its file is in `folder`: documents (text sources → tokenizer and documents.parquet), model
(→ model.safetensors, resumed from its checkpoint) and sequences (→ sequences.parquet). `documents=shipped` takes tokenizer and documents
from the package, so that no text source is needed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
import numpy as np
import polars as pl
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io.files import copy_file, write_parquet, write_text
from memgrid.io.paths import CONF, TOY
from memgrid.lm.load import load_language_model
from memgrid.pretrain.documents import END_OF_TEXT, MixConfig, build_documents, train_tokenizer, training_windows
from memgrid.pretrain.sequences import OfferConfig, build_sequences
from memgrid.pretrain.sources import read_sources
from memgrid.pretrain.train import ModelConfig, OptimizerConfig, train_model


@dataclass
class PretrainConfig:
    """Everything that decides the embedded model."""

    folder: str = "memgrid-pretrain"
    documents: str = "shipped"
    seed: int = 0
    threads: int = 2
    length: int = 64
    k: int = 32
    windows: int | None = None
    sources: dict[str, str] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    mix: MixConfig = field(default_factory=MixConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    offer: OfferConfig = field(default_factory=OfferConfig)


def log(line: str) -> None:
    """A line of progress, at once."""
    print(line, flush=True)


def pretrain(config: PretrainConfig) -> None:
    """Make whatever of documents, model and sequences is not in the folder yet.

    Raises:
        UserError: `documents` is neither shipped nor sources, or a text source is missing.
    """
    if config.documents not in ("shipped", "sources"):
        raise UserError(f"documents={config.documents} is unknown: use shipped or sources")
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
        write_parquet(sequences, folder / "sequences.parquet", compression="zstd", compression_level=19)
        log(str(sequences.group_by("kind").len().sort("kind")))


def make_documents(config: PretrainConfig, folder: Path) -> None:
    """Tokenizer and documents, from the package or from the text sources; the documents come last."""
    if config.documents == "shipped":
        for name in ("tokenizer.json", "documents.parquet"):
            copy_file(TOY / name, folder / name)
        return
    try:
        texts = read_sources(config.sources, config.characters, config.seed)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    tokenizer = train_tokenizer((text for documents in texts.values() for text in documents), config.model.vocab_size)
    write_text(tokenizer.to_str(pretty=True), folder / "tokenizer.json")
    documents = build_documents(texts, tokenizer, config.mix, config.length, config.seed)
    write_parquet(documents, folder / "documents.parquet", compression="zstd", compression_level=19)


def make_model(config: PretrainConfig, documents: pl.DataFrame, tokenizer: Tokenizer, folder: Path) -> None:
    """Train, and save in float16; a model of few `windows` is a trial."""
    windows = training_windows(documents, config.length)
    if config.windows is not None:
        windows = windows[np.random.default_rng(config.seed).permutation(len(windows))[: config.windows]]
    model: GPTNeoXForCausalLM = train_model(windows, config.model, config.optimizer, config.seed, folder, log)
    with TemporaryDirectory(dir=folder, prefix=".model-") as unfinished:
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT).save_pretrained(unfinished)
        model.half().save_pretrained(unfinished)
        # The weights are the last: they say that the others are there.
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.suffix == ".safetensors"):
            copy_file(file, folder / file.name)


@hydra.main(config_path=str(CONF), config_name="pretrain", version_base="1.3")
def main(config: DictConfig) -> None:
    """Compose, then make."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PretrainConfig)
    try:
        pretrain(typed)
    except UserError as error:
        sys.exit(f"memgrid: {error}")


if __name__ == "__main__":
    ConfigStore.instance().store(name="pretrain_schema", node=PretrainConfig)
    main()
