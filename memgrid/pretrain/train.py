"""Training of the embedded GPT-NeoX: one pass over the documents, in bfloat16, resumable at any checkpoint."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memgrid.io.files import write_bytes
from memgrid.io.progress import progress_bar
from memgrid.pretrain.config import ModelConfig, OptimizerConfig


def train_model(
    windows: np.ndarray, model_config: ModelConfig, optimizer_config: OptimizerConfig, seed: int, folder: Path, log: Callable[[str], None]
) -> GPTNeoXForCausalLM:
    """Train on every window once, in a seeded order; goes on from `folder/checkpoint.pt` if it is there.

    Args:
        windows: token ids, uint16 (windows, length).
        folder: where the checkpoint lives; it is replaced atomically every `checkpoint_every` steps.
        log: called with a line about every checkpoint.
    """
    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(**asdict(model_config), bos_token_id=0, eos_token_id=0, use_cache=False, attn_implementation="eager")
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=optimizer_config.learning_rate,
        betas=optimizer_config.betas,
        weight_decay=optimizer_config.weight_decay,
        fused=True,
    )
    order = np.random.default_rng(seed).permutation(len(windows))
    batches = [order[start : start + optimizer_config.batch_size] for start in range(0, len(order), optimizer_config.batch_size)]
    checkpoint = folder / "checkpoint.pt"
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        log(f"continuing at step {step} of {len(batches)}")

    step_loss = torch.compile(window_loss) if optimizer_config.compile else window_loss
    recent: list[float] = []
    with progress_bar() as progress:
        task = progress.add_task("pretraining", total=len(batches), completed=step)
        while step < len(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, len(batches), optimizer_config)
            loss = step_loss(model, torch.from_numpy(windows[batches[step]].astype(np.int64)))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), optimizer_config.clip)
            optimizer.step()
            optimizer.zero_grad()
            recent.append(loss.item())
            step += 1
            progress.advance(task)
            if step % optimizer_config.checkpoint_every == 0 or step == len(batches):
                save_checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, checkpoint)
                log(f"step {step} of {len(batches)}, training loss {np.mean(recent):.3f} nats per token")
                recent = []
    return model


def window_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean next-token cross-entropy of tokens int64 (windows, length), in nats, computed in bfloat16 and reduced in float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=tokens).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write it whole or not at all: a kill leaves the previous checkpoint."""
    content = io.BytesIO()  # torch does not say when it was the disk that failed
    torch.save(state, content)
    write_bytes(content.getbuffer(), path)
