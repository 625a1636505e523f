"""Small audits for tests, and what they leave on disk."""

import json

import h5py
import numpy as np
import polars as pl
from conftest import made_once, memgrid_here
from omegaconf import OmegaConf

from memgrid.audit.config import AuditConfig
from memgrid.io.files import DAMAGED

TINY = ("shadows=4", "model.epochs=6", "predictors.directions=50", "wandb=off", "trainer.progress=false")
# Of many audits no page is looked at, and to draw it takes as long as all before.
NO_PAGE = "stages=[prepare,train,attack]"


def audit(root, *given, **how):
    return memgrid_here(*given, f"root={root}", module="audit", **how)


def folder_of(root):
    (folder,) = root.glob("audits/*/*/*")
    return folder


def results_of(root):
    (folder,) = root.glob("audits/*/*/*/attack-*")
    return folder


def metrics_of(root):
    return json.loads((results_of(root) / "metrics.json").read_text())


def kept_settings(root):
    """What config.yaml says."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(AuditConfig), OmegaConf.load(folder_of(root) / "config.yaml")))


def area(metrics, question, moment, predictor):
    rows = pl.DataFrame(metrics["predictions"], infer_schema_length=None)
    return rows.filter(question=question, moment=moment, predictor=predictor)["auc"].item()


def contents(root):
    """Every array of every file, by the file's name and its own."""
    arrays = {}
    for path in sorted(folder_of(root).rglob("*.h5")):
        if path.parent.name == DAMAGED:
            continue
        with h5py.File(path) as file:
            names = []
            file.visit(names.append)
            arrays |= {(path.name, name): file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
    return arrays


def assert_same_audit(root, expected):
    assert metrics_of(root) == metrics_of(expected)
    mine, theirs = contents(root), contents(expected)
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(mine[name], array, err_msg=str(name))


def undisturbed_audit(tmp_path_factory):
    """The root of a tiny audit that nothing disturbed. To read from only."""
    return made_once("audit-undisturbed", lambda root: audit(root, *TINY, seen=True), tmp_path_factory)
