"""The dress rehearsal: what docs/cluster.md tells to type, typed on a SLURM, with a hub that is there for the first block only.

The models are Pythia's in all but size, and the data set has all its columns. The site's own file, `mine.yaml`, makes a corner of the
paper's grid; only the number of parts is another than on the page.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from cluster import provided
from models_maker import save, to_bin, weights_of, whole_folder
from semantic_filters_maker import make_semantic_filters
from stand_in_hub import opened

from memgrid.io.paths import CONF, PACKAGE

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

CHECKOUT = CONF.parent
PAGE = CHECKOUT / "docs" / "cluster.md"
DATASET = "datasets/usvsnsp/semantic-filters"
# The paper's models: in how many parts their .bin files are. Each has a vocabulary of its own, as there; the tokenizer knows 2,048 tokens.
MODELS = {"12b": (3, 2304), "6.9b": (2, 2176), "2.8b": (1, 2048)}
LAYERS, KNOWN = 3, 2048
OF_ITS_TIME = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.24.0",
    "use_cache": True,
    "use_parallel_residual": True,
}
SHAPE = {"hidden_size": 16, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": LAYERS}


def pythia(folder: Path, parts: int, vocabulary: int) -> dict[str, bytes]:
    """A model's repository as EleutherAI's early releases are: half precision, with the buffers and the configuration of their time."""
    folder.mkdir()
    whole_folder(folder, **SHAPE, vocab_size=vocabulary, max_position_embeddings=2048)
    weights = {name: tensor.half() for name, tensor in weights_of(folder).items()}
    for layer in range(LAYERS):
        attention = f"gpt_neox.layers.{layer}.attention"
        weights[f"{attention}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8).tril()
        weights[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        weights[f"{attention}.rotary_emb.inv_freq"] = torch.ones(2)
    to_bin(folder, weights, parts)
    if parts == 1:
        save(folder, weights)
    (folder / "config.json").write_text(json.dumps({**OF_ITS_TIME, **SHAPE, "vocab_size": vocabulary}))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "add_prefix_space": False, "tokenizer_class": "GPTNeoXTokenizer"}))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "generation_config.json").unlink()
    (folder / "README.md").write_text("A model card.")
    (folder / ".gitattributes").write_text("*.bin filter=lfs")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def dataset(folder: Path) -> dict[str, bytes]:
    """The files of semantic-filters for the three models, and one split that nobody asks for."""
    for seed, size in enumerate(MODELS):
        make_semantic_filters(folder, 900, seed, (f"memories_deduped_{size}", f"pile_deduped_{size}"))
    make_semantic_filters(folder, 10, 9, ("memories_duped_70m",))
    for path in folder.rglob("*.parquet"):
        known = pl.col("tokens").list.eval(pl.element() % KNOWN)
        pl.read_parquet(path).with_columns(known, pl.col("sequence_duplicates").replace(2, None)).write_parquet(path)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


# The site


TAXONOMIES, DELTA, PARTS = ("recite_guess", "recite", "recollect"), 50, 2
SITE = f"""# @package _global_
# What `cp conf/cluster/a100.yaml` has made, with this site's names; and a corner of the grid.
defaults:
  - override /hydra/launcher: slurm
  - override /wandb: "off"

hydra:
  launcher: {{partition: debug, cpus_per_task: 1, mem_gb: 2, timeout_min: 20, setup: ["echo on a node"]}}
  sweeper: {{params: {{taxonomy: "{",".join(TAXONOMIES)}", delta: "{DELTA}"}}}}

select: {{train_per_class: 16, eval_per_class: 8, min_train_per_class: 8, min_eval_per_class: 4}}
llm: {{batch_tokens: 1024}}
cnn: {{epochs: 1, kernel_size: [6], features: [10]}}
trainer: {{threads: 1, progress: false}}
"""


class Terminal:
    """A user's shell on the login node: what a line exports, the next one finds."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env

    def type(self, line: str) -> str:
        """What a line prints, which must end well."""
        after = self.folder.parent / "environment"
        words = ["bash", "-c", f'set -ae\n{line}\nenv -0 > "$0"', str(after)]
        process = subprocess.run(words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600)
        print("$", line, process.stdout, process.stderr, sep="\n")
        assert process.returncode == 0, f"{line}\n{process.stdout[-2000:]}\n{self.told_by_jobs()}"
        self.env = dict(entry.split("=", 1) for entry in after.read_text().split("\0") if entry)
        return process.stdout

    def told_by_jobs(self) -> str:
        """The ends of what the jobs of the last sweep printed."""
        sweeps = sorted((self.folder / "memgrid-runs" / "multirun").glob("*"))[-1:]
        return "\n".join(f"{log}:\n{log.read_text()[-3000:]}" for sweep in sweeps for log in sorted(sweep.glob("*_log.*")))


def typed(heading: str) -> list[str]:
    """The first block of commands under a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    return re.search(r"(?:^    .*\n)+", section, re.M)[0].replace("\n    ", "\n").strip().splitlines()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout of the user's own, into which files may be copied."""
    folder = tmp_path / "memgrid"
    shutil.copytree(CONF, folder / "conf")
    shutil.copytree(CHECKOUT / "hydra_plugins", folder / "hydra_plugins")
    shutil.copytree(PACKAGE, folder / "memgrid", ignore=shutil.ignore_patterns("assets"))
    (folder / "memgrid" / "assets").symlink_to(PACKAGE / "assets")
    return folder


@pytest.fixture
def cluster(tmp_path_factory):
    """A SLURM."""
    with provided(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def terminal(checkout, cluster) -> Terminal:
    """Where memgrid is installed, from the checkout."""
    env = {key: value for key, value in cluster.quick.items() if not key.startswith("HF_")}
    env["PYTHONPATH"] = f"{checkout}{os.pathsep}{env['PYTHONPATH']}"
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return Terminal(checkout, {**env, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "NO_PROXY": "127.0.0.1,localhost"})


@pytest.fixture
def repositories(tmp_path) -> dict[str, dict[str, bytes]]:
    """What the hub has of the paper's models and corpus."""
    made = {f"EleutherAI/pythia-{size}-deduped-v0": pythia(tmp_path / size, *given) for size, given in MODELS.items()}
    return {**made, DATASET: dataset(tmp_path / "data")}


def wanted(repositories: dict[str, dict[str, bytes]]) -> set[tuple[str, str]]:
    """The files that there is a use for: safetensors where there are some, else .bin, and the splits of the models."""
    return {
        (name, path)
        for name, files in repositories.items()
        for path in files
        if path.endswith((".json", ".safetensors"))
        or (path.endswith(".bin") and "model.safetensors" not in files)
        or (path.endswith(".parquet") and "70m" not in path)
    }


def test_the_papers_grid_is_typed_on_a_cluster(repositories, terminal):
    install, home, site, fetch = typed("Once, on the login node")
    assert "pip install -e ." in install  # that this works is tested with environments
    with opened(repositories) as hub:
        terminal.env["HF_ENDPOINT"] = hub.endpoint
        terminal.type(home)
        terminal.type(site)
        terminal.type(fetch)
        assert set(hub.downloads()) == wanted(repositories)
        assert set(hub.downloads().values()) == {1}
        assert len(hub.asked) + len(hub.heads) < 150  # of somebody whom it does not know the hub answers 500 in five minutes
    (terminal.folder / "conf" / "cluster" / "mine.yaml").write_text(SITE)  # over the copy, with an editor
    grid, plan, extract, train, look = typed("The whole grid")
    cells = list(product([f"pythia-{size}-deduped" for size in MODELS], TAXONOMIES))
    terminal.type(grid)
    told = terminal.type(plan)
    assert f"{len(cells)} runs submitted as {len(MODELS)} jobs" in told
    for llm in dict.fromkeys(llm for llm, _ in cells):
        assert f"plan     {len(TAXONOMIES)} runs of {llm} ({len(TAXONOMIES) - 1} trainings) want " in told
    parts = extract.replace("range(0,8)", f"range(0,{PARTS})").replace("parts=8", f"parts={PARTS}")
    assert parts != extract
    assert f"{PARTS * len(cells)} runs submitted as {PARTS * len(MODELS)} jobs" in terminal.type(parts)
    told = terminal.type(train)
    assert f"{len(cells)} runs submitted as {len(cells) - len(MODELS)} jobs" in told  # recollect is recite by another name
    told = terminal.type(look)
    assert f"done       {len(cells)} " in told
    assert f"{len(cells)} finished runs below memgrid-runs" in told
    root = terminal.folder / "memgrid-runs"
    assert sorted(pl.read_csv(root / "report" / "runs.csv").select("llm", "taxonomy").rows()) == sorted(cells)
    assert all(llm in (root / "report" / "index.html").read_text() for llm, _ in cells)
    assert_nothing_was_read_twice(root)
    logs = [path.read_text() for path in root.glob("multirun/*/*_log.out")]
    assert sum("rows with a null are left out" in log for log in logs) >= len(MODELS)
    assert sum("\nmemgrid: corpus 'semantic_filters' calls " in log for log in logs) == PARTS * len(MODELS)  # these models know nothing


def assert_nothing_was_read_twice(root: Path) -> None:
    """Each sequence is in the store once, and trainings found all that they want in it."""
    for size in MODELS:
        shards = [h5py.File(path) for path in root.glob(f"attention/pythia-{size}-deduped*/*/*.h5")]
        ids = np.concatenate([shard["sequence_id"][:] for shard in shards])
        assert len(ids) == len(np.unique(ids)) > 0
    logs = [path.read_text() for path in sorted(root.glob("multirun/*/*_log.out"))]
    trained = [log for log in logs if "\ntrain    " in log]
    assert len(trained) == len(MODELS) * (len(TAXONOMIES) - 1)
    assert all(log.count(" 0 extracted") == log.count("\nextract  ") for log in trained)
