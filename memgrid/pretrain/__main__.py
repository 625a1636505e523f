"""`python -m memgrid.pretrain`: make the embedded model again, from free text to the files in `memgrid/assets/toy`.

Three steps, each skipped when its file is in `folder`: documents (text sources → tokenizer and documents.parquet), model
(→ model.safetensors, resumed from its checkpoint) and sequences (→ sequences.parquet). `documents=shipped` takes tokenizer and documents
from the package, so that no text source is needed.
"""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from memgrid.config.describe import Composed, helped
from memgrid.config.validate import as_dataclasses
from memgrid.io.commands import HELP, any_terminal
from memgrid.io.paths import CONF
from memgrid.launch.cli import attempt, start
from memgrid.pretrain.config import PretrainConfig, validate

COMMAND = Composed(
    "pretrain",
    PretrainConfig,
    "Makes the embedded model again, in three steps, each skipped when its file is in the folder: documents (tokenizer.json, "
    "documents.parquet), model (model.safetensors, resumed from its checkpoint) and sequences (sequences.parquet).",
    {
        "pretrain": "from the documents of the package",
        "pretrain windows=2000 folder=trial": "a trial on few windows",
        "pretrain documents=sources sources.kjv=my/kjv.jsonl": "documents too, from text",
    },
)


def make(config: DictConfig) -> None:
    """Validate, then make what the folder lacks."""
    typed: PretrainConfig = as_dataclasses(config, PretrainConfig(), "pretrain")
    validate(typed)
    from memgrid.pretrain.stages import pretrain  # imports torch, which a refusal can do without

    pretrain(typed)


@hydra.main(config_path=str(CONF), config_name="pretrain", version_base="1.3")
def compose_and_pretrain(config: DictConfig) -> str | None:
    """Hydra calls this once."""
    return attempt(lambda _: make(config))


def main() -> None:
    """`memgrid pretrain`."""
    if HELP & set(sys.argv[1:]):
        with any_terminal():
            print(helped(COMMAND))
        return
    ConfigStore.instance().store(name="pretrain_schema", node=PretrainConfig)
    start(compose_and_pretrain)


if __name__ == "__main__":
    main()
