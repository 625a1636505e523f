"""A reader of the files that wandb writes while it is offline, of its own on purpose, and a history to write into one."""

import json
import struct
import time

from wandb.proto import wandb_internal_pb2

from memgrid.results.result import MemberEpoch

HEADER, BLOCK = 7, 32768  # the file is a LevelDB log: blocks of pieces, each behind a checksum, its length and its type


def records(path):
    """A reader of its own, on purpose: the one in `memgrid.tracking.files` is what is tested, and wandb offers none."""
    data, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if at + HEADER + length > len(data):  # cut off
            return
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def named(items):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def history(path):
    """The rows of curves."""
    rows = [named(record.history.item) for record in records(path) if record.HasField("history")]
    return [row for row in rows if any(key.endswith("/min_f1") for key in row)]


def summary(path):
    return {key: value for record in records(path) if record.HasField("summary") for key, value in named(record.summary.update).items()}


def config(path):
    return {key: value for record in records(path) if record.HasField("run") for key, value in named(record.run.config.update).items()}


def started(path):
    return next(record.run for record in records(path) if record.HasField("run"))


def files(folder):
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def finished_files(folder):
    """The same when wandb's own process has written the last one's end, which it does a moment after `wandb.finish`."""
    deadline = time.monotonic() + 20
    while not any(record.HasField("exit") for record in records(files(folder)[-1])) and time.monotonic() < deadline:
        time.sleep(0.01)
    return files(folder)


def epochs(path):
    return [row["epoch"] for row in history(path)]


def rows(*epochs, members=("k8-f16-mean",)):
    """A history."""
    return [MemberEpoch(e, m, 1 / (e + 1), 1.0, [[9, 1], [2, 8]]) for e in epochs for m in members]
