"""A model's weight files: which of a folder's are read, whether they are whole, and a short digest of each tensor in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from memgrid.errors import UserError
from memgrid.io.hub import Choice

# In one piece, or as `<name>.index.json` lists the pieces. The first that a folder has is read, and nothing of the other.
WHOLE = ("model.safetensors", "pytorch_model.bin")
BESIDE = ("*.json", "*.model", "merges.txt")  # what is read of a model's repository beside its weights, all of it at the top
IN_SAFETENSORS = Choice((WHOLE[0], f"{WHOLE[0]}.index.json"), ("*.safetensors", *BESIDE), ("*/*", "consolidated*"))
IN_PYTORCH = Choice((WHOLE[1], f"{WHOLE[1]}.index.json"), (WHOLE[1], "pytorch_model-*.bin", *BESIDE), ("*/*",))
POINTER = b"version https://git-lfs"  # what git leaves of a large file where git-lfs did not fetch it
ZIP = b"PK\x03\x04"  # what torch has written since version 1.6
BLOCKS, BLOCK = 8, 4096
SHARED = 0.1  # the share of equal tensors from which on two models are told to have something in common


def weight_files(folder: Path) -> list[Path]:
    """The files that are read, sorted by name; empty if the folder holds no weights.

    Raises:
        UserError: an index cannot be read, or names files that are not there.
    """
    lacking: list[str] = []
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            paths = [folder / shard for shard in shards_of(index)]
            if not (absent := [path.name for path in paths if not path.is_file()]):
                return paths
            lacking = lacking or absent
    if lacking:
        raise UserError(f"{folder} lacks {len(lacking)} of its weight files, such as {lacking[0]}: get them, or fetch the model anew")
    return []


def shards_of(index: Path) -> list[str]:
    """The names of the files in an index, each once and sorted.

    Raises:
        UserError: it is no index, or names files outside its folder.
    """
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        inside = all(Path(name).name == name for name in names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        inside = False
    if not inside or not names:
        raise UserError(f"{index} is no list of weight files: get it anew")
    return names


def check_file(path: Path) -> None:
    """Refuse what git or a broken download leaves of any file of a model.

    Raises:
        UserError: it is empty, or a pointer of git-lfs.
    """
    with path.open("rb") as file:
        start = file.read(len(POINTER))
    if not start:
        raise UserError(f"{path} is empty: get it anew")
    if start == POINTER:
        raise UserError(f"{path} is only git-lfs's pointer to the file: run `git lfs pull` in {path.parent}")


def check_weights(path: Path) -> None:
    """Refuse a weight file that is not whole; of a large one only the list of its tensors is read.

    Raises:
        UserError: something is missing, or it holds something else than named tensors.
    """
    check_file(path)
    if path.suffix == ".safetensors" or is_mapped(path):  # older .bin files could be looked through only by reading all of them
        mapped(path)


def is_mapped(path: Path) -> bool:
    """Whether a .bin file is a zip archive, whose tensors can be read one by one."""
    with path.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def mapped(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, each read from the disk only where it is looked at.

    Raises:
        UserError: as `check_weights`; or the file would run code, which is not let.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped(path))
    except Exception as error:  # from the library in Rust, the unpickler, the zip reader, or the operating system
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise UserError(f"{path} holds more than weights, which memgrid does not run: ask its owners for safetensors") from None
        raise UserError(f"{path} is not whole ({type(error).__name__}): get it anew") from None
    if not isinstance(tensors, dict) or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()):
        raise UserError(f"{path} holds something else than tensors by name: save the model with save_pretrained")
    return tensors


def tensor_digests(folder: Path) -> dict[str, str]:
    """What each tensor of a model's folder holds, as 16 hexadecimal digits by its name: a moment even for weights of many gigabytes.

    Equal weights in the same type have equal digests, whatever the files are called, however they are cut into shards, and in either
    format. Only 8 blocks of 4 KiB of each tensor are read, evenly spaced. What is not learned (see `is_constant`), or is the same number
    throughout, has none. For a configuration, `tensor_digests(model_folder(config))`; see `kinship` for what digests tell.

    Raises:
        UserError: a file is not whole.
    """
    digests = {}
    for path in weight_files(folder):
        for name, tensor in mapped(path).items():
            if tensor.is_floating_point() and not is_constant(name, tensor.shape) and (digest := digest_tensor(tensor)) is not None:
                digests[name] = digest
    return digests


def digest_tensor(tensor: Tensor) -> str | None:
    """The digest of one tensor: of its type, its shape and some blocks of its values; None if all are the same, which tells nothing."""
    digest, width = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode()), tensor.element_size()
    read = torch.cat(list(blocks(tensor.contiguous().flatten().view(torch.uint8), BLOCK // width * width)))
    digest.update(read.numpy().tobytes())
    values = read.view(-1, width)
    return None if bool((values == values[:1]).all()) else digest.hexdigest()[:16]


def blocks(values: Tensor, size: int) -> Iterator[Tensor]:
    """Evenly spaced blocks of bytes, the first and the last ones included; all bytes where there are few."""
    if len(values) <= BLOCKS * size:
        yield values
        return
    for number in range(BLOCKS):
        start = (len(values) - size) * number // (BLOCKS - 1) // 8 * 8  # no element is cut
        yield values[start : start + size]


def is_constant(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is none of the learned numbers but a mask or a table of positions, as early versions of transformers saved them."""
    leaf = name.rpartition(".")[2]
    return leaf in ("inv_freq", "masked_bias", "position_ids") or (leaf == "bias" and len(shape) == 4)


def kinship(digests: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What models that should differ have in common: a sentence for those with equal weights, and for each pair with many equal tensors.

    Revisions of a model may lie: some hold the weights of another step, some only a file of it.

    Args:
        digests: of each model, by the name to call it by: see `tensor_digests`.
    """
    groups: list[list[str]] = []  # of equal weights
    for name, mine in digests.items():
        counts = ((group, equal_tensors(digests[group[0]], mine)) for group in groups)
        group = next((group for group, (equal, compared) in counts if equal == compared > 0), None)
        groups.append([name]) if group is None else group.append(name)
    sentences = [
        f"{', '.join(names[:-1])} and {names[-1]} have the same weights: they are one model under {len(names)} names"
        for names in groups
        if len(names) > 1
    ]
    for (one, *_), (other, *_) in combinations(groups, 2):
        equal, compared = equal_tensors(digests[one], digests[other])
        if equal >= SHARED * compared > 0:
            sentences.append(f"{one} and {other} share {equal} of {compared} tensors: a weight file of the one may belong to the other")
    return sentences


def equal_tensors(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[int, int]:
    """How many tensors are equal, and how many there are to compare.

    A tensor that only one of the two has counts as equal if the other has the same under another name: tied weights are saved once or
    twice.
    """
    names = one.keys() | other.keys()
    either = set(one.values()), set(other.values())
    equal = sum(
        one[name] == other[name] if name in one and name in other else one.get(name) in either[1] or other.get(name) in either[0]
        for name in names
    )
    return equal, len(names)
