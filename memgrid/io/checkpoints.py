"""Checkpoints: whole on any file system, with a digest beside them, read without running what they hold, and passed over where damaged.

Beside `last.ckpt` lie `last.previous.ckpt`, the one before it, as long as the training goes on, and `last.ckpt.sha256`, which has the
digests of both as sha256sum writes them. A checkpoint is sound if its digest is one of these: so there is no moment at which a kill leaves
none. Checkpoints of older versions have no digest, and are believed if they can be read.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memgrid.errors import DamagedError, UserError
from memgrid.io.files import content_of, fill, force_to_disk, reason, replace_damaged, whole, write_text

State = dict[str, Any]


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return path.with_suffix(f".previous{path.suffix}")


def beside(path: Path) -> Path:
    """Where the digests of a checkpoint and of the one before it lie."""
    return path.with_name(f"{path.name}.sha256")


def digests(path: Path) -> dict[str, str]:
    """The digests beside a checkpoint, by the name of the file; empty where there are none."""
    try:
        lines = beside(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def save(state: State, path: Path) -> None:
    """Write a checkpoint, as `io.files.whole` does; the one that stood there is kept as the previous one."""
    import torch

    buffer = io.BytesIO()  # torch does not say when it was the disk that failed
    torch.save(state, buffer)
    content = buffer.getvalue()
    lines = {path.name: hashlib.sha256(content).hexdigest()}
    with whole(path) as partial:
        fill(partial, content)
        force_to_disk(partial)
        sound = {file: digest for file in (path, previous(path)) if (digest := sound_digest(file, path))}
        if sound:
            kept, lines[previous(path).name] = next(iter(sound.items()))
        # From here on there is a sound one at any moment: that which is kept, under either name, and then the new one.
        write_text("".join(f"{digest}  {name}\n" for name, digest in lines.items()), beside(path))
        if sound and kept == path:
            os.replace(path, previous(path))


def sound_digest(file: Path, path: Path) -> str | None:
    """The digest of a checkpoint that is there, if it is among those beside `path` or none are there; else None."""
    try:
        digest = hashlib.sha256(content_of(file)).hexdigest()
    except FileNotFoundError:
        return None
    return digest if digest in digests(path).values() or not beside(path).exists() else None


def load(path: Path) -> State:
    """A checkpoint, on the CPU; of what it holds, tensors and plain types alone are read, and nothing is run.

    Raises:
        DamagedError: it is not what was written, or holds something else. OSError: it cannot be read.
    """
    import torch

    content = content_of(path)
    last = path.with_name(path.name.replace(".previous", ""))
    known = set(digests(last).values())
    if beside(last).exists() and hashlib.sha256(content).hexdigest() not in known:
        raise DamagedError(path, "its content does not match its digest")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make torch raise whatever they like
        if "allocat" in str(error) and beside(last).exists():  # of what is sound: it is memory that lacks
            raise UserError(f"{path} cannot be loaded ({reason(error)}): make room in memory and run again") from None
        raise DamagedError(path, f"it is no checkpoint: {reason(error)}") from None
    if not isinstance(state, dict):
        raise DamagedError(path, "it is no checkpoint of a training")
    return state


def newest(path: Path, fits: Callable[[State], bool]) -> State | None:
    """What a training goes on from: the checkpoint, or the one before it, or None. What cannot be read is named and set aside.

    Args:
        fits: whether a state is one of this training; one that is not is passed over.
    """
    for candidate in (path, previous(path)):
        try:
            state = load(candidate)
            if fits(state):
                return state
        except FileNotFoundError:
            continue
        except DamagedError as error:
            replace_damaged(error)
    return None


def keep_last(path: Path) -> None:
    """A training has ended: the checkpoint before its last one is of no more use."""
    if previous(path).exists():
        previous(path).unlink()
        write_text("".join(f"{digest}  {name}\n" for name, digest in digests(path).items() if name == path.name), beside(path))
