"""Readers of what the trackers CSV and TensorBoard leave in a run's folder."""

import struct

import polars as pl
from tensorboardX.proto.event_pb2 import Event


def events(folder):
    """Name, step and value of all scalars that TensorBoard finds: in each file records of a length, its sum, the event, and its sum."""
    found = []
    for path in sorted((folder / "tensorboard").glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value if value.HasField("simple_value")]
            at += 12 + length + 4
    return found


def epochs_of(folder, tracker):
    """The rows of epochs, each with its step, in their order."""
    if tracker == "csv":
        rows = pl.read_csv(folder / "csv/metrics.csv").to_dicts()
        return [(row["step"], {name: value for name, value in row.items() if value is not None}) for row in rows]
    rows = []
    for name, step, value in events(folder):
        if not rows or rows[-1][0] != step or name in rows[-1][1]:
            rows.append((step, {}))
        rows[-1][1][name] = value
    return [(step, row) for step, row in rows if "epoch" in row]
