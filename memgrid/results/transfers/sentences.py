"""What a transfer found, in sentences, each with its numbers."""

from __future__ import annotations

from memgrid.io.display import plural
from memgrid.results.transfers.record import Transfer, TransferRecord, Transferred

NOT_SEEN, WITH_LOSS, NO_LOSS = "not seen to transfer", "transfers with a loss", "transfers, no loss seen"
LEVEL = 0.05  # the chance, at most, that any source is called so of which the opposite is true


def sentences(record: TransferRecord) -> list[str]:
    """Of each source whether its networks tell the classes apart here, how far behind the run's own, and what else does so."""
    lines = [line for one in record.transfers for line in of_source(one, record)]
    if passed := record.passed_over:
        lines.append(f"{plural(len(passed), 'finished run')} could not be tried: {next(iter(passed))} {next(iter(passed.values()))}.")
    return lines


def verdict(one: Transfer) -> str:
    """One of `NOT_SEEN`, `WITH_LOSS` and `NO_LOSS`."""
    if one.adjusted > LEVEL:
        return NOT_SEEN
    return WITH_LOSS if one.difference.adjusted <= LEVEL and one.difference.points < 0 else NO_LOSS


def of_source(one: Transfer, record: TransferRecord) -> list[str]:
    """The sentences on one source."""
    panel, kind = one.panel, verdict(one).replace("not seen", "is NOT seen")
    score, share = panel.scores.min_f1, "no share" if panel.ratio is None else f"{panel.ratio:.0f} %"
    lines = [
        f"What the networks of {one.source.name} learned {kind}: min-F1 {score.mean:.1f} ({score.low:.1f}–{score.high:.1f}) on "
        f"{samples_text(one)}, {chance_text(one, record)}; that is {share} of this run's own {panel.own.min_f1.mean:.1f} "
        f"({gap_text(one)})."
    ]
    if alike := [pair for pair in one.pairs if pair.adjusted > LEVEL]:
        names = ", ".join(f"{record.classes[pair.first]} and {record.classes[pair.second]}" for pair in alike)
        lines.append(f"They do NOT tell apart {names} here.")
    others = {"the best linear probe": one.best(probes=True), "the best of what needs no attention": one.best(probes=False)}
    if beside := [f"{what} {beside_text(*best)}" for what, best in others.items() if best]:
        lines.append(f"Fitted there and tried here, {', and '.join(beside)}.")
    if one.source.layers != record.layers:
        lines.append(f"Its model has {one.source.layers} layers and this one's {record.layers}: maps were resampled by relative depth.")
    return [*lines, *([f"{one.remark[0].upper()}{one.remark[1:]}."] if one.remark else [])]


def beside_text(name: str, found: Transferred) -> str:
    """Such as `(tokens) reaches 61.0, where the one fitted here reaches 70.2`."""
    return f"({name}) reaches {found.scores.min_f1.mean:.1f}, where the one fitted here reaches {found.own.min_f1.mean:.1f}"


def samples_text(one: Transfer) -> str:
    """How many samples it was tried on."""
    left_out = sum(one.known)
    out = f" ({left_out} that it was trained on, or near-duplicates of such, are left out)" if left_out else ""
    return f"{sum(one.samples)} eval samples{out}"


def chance_text(one: Transfer, record: TransferRecord) -> str:
    """Whether that is more than chance."""
    p = f"p = {one.adjusted:.2g}, {record.permutations} permutations of the labels"
    return f"more than chance ({p})" if one.adjusted <= LEVEL else f"not more than chance ({p})"


def gap_text(one: Transfer) -> str:
    """By how many points it differs, with the interval and p."""
    gap = one.difference
    return f"{gap.points:+.1f} points, {gap.low:+.1f} to {gap.high:+.1f}, p = {gap.adjusted:.2g}"
