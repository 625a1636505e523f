"""`python -m memgrid.pretrain`: make the embedded model again, from free text to the files in `memgrid/assets/toy`.

Three steps, each skipped when its file is in `folder`: documents (text sources → tokenizer and documents.parquet), model
(→ model.safetensors, resumed from its checkpoint) and sequences (→ sequences.parquet). `documents=shipped` takes tokenizer and documents
from the package, so that no text source is needed.
"""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from memgrid.errors import UserError
from memgrid.io.paths import CONF
from memgrid.pretrain.config import PretrainConfig


@hydra.main(config_path=str(CONF), config_name="pretrain", version_base="1.3")
def compose_and_pretrain(config: DictConfig) -> None:
    """Compose, then make."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, PretrainConfig)
    from memgrid.pretrain.stages import pretrain  # imports torch, which a mistyped word can do without

    try:
        pretrain(typed)
    except UserError as error:
        sys.exit(f"memgrid: {error}")


def main() -> None:
    """The command line."""
    ConfigStore.instance().store(name="pretrain_schema", node=PretrainConfig)
    compose_and_pretrain()


if __name__ == "__main__":
    main()
