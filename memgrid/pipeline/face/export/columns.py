"""What the columns of an export mean, with their units: what its card says of them."""

from __future__ import annotations

from memgrid.taxonomy.columns import REFERENCE

RUN = "the run, `<llm>/<taxonomy>/<name>`: its folder below `runs` of its root"
LLM = "the language model, with its checkpoint where its name alone does not tell it"
CORPUS = "the corpus of the sequences"
SEQUENCE = "the sequence's id in its corpus: equal ids of one corpus are one sequence, in all tables"

# What each table holds, and its columns. A table that would be empty is left out.
TABLES: dict[str, str] = {
    "runs": "A row per run: what was asked, and what came out.",
    "samples": "A row per run and sequence that it trained on or evaluates on; the splits are the run's sides, `train` and `eval`.",
    "predictions": "A row per run, classifier and eval sequence: the probability of every class.",
    "decision_maps": "A row per run, method and class: where the networks' decision for the class comes from, the paper's Δ.",
    "labels": "A row per language model, corpus and sequence: what taxonomies read. Empty where nothing was computed.",
    "texts": "A row per language model, corpus and sequence that a run has sampled: its tokens and their text.",
}
COLUMNS: dict[str, dict[str, str]] = {
    "runs": {
        "run": RUN,
        "llm": LLM,
        "corpus": CORPUS,
        "taxonomy": "by which sequences are divided into classes",
        "delta": "threshold on duplicates; empty where the taxonomy does not read it",
        "rho": "threshold on ROUGE, 0 to 1; empty where the taxonomy does not read it",
        "rouge": "the score that `rho` is applied to: both, l or 3; empty where the taxonomy does not read it",
        "seed": "of the draw, the split and the training",
        "classes": "titles of the classes, in their order: `label` counts them from 0 on",
        "train_per_class": "sequences of each class that were trained on",
        "eval_per_class": "sequences of each class that scores are from",
        "min_f1": "the lowest F1 of all classes, in percent: the mean over the networks",
        "min_f1_std": "its standard deviation over the networks, in percent",
        "min_f1_low": "lower end of its 95 % interval, in percent",
        "min_f1_high": "upper end of its 95 % interval, in percent",
        "f1": "F1 of every class in percent, in the order of `classes`: the mean over the networks",
        "accuracy": "the share of eval sequences that are told right, in percent: the mean over the networks",
        "shuffled_min_f1": "min-F1 of networks that were trained on shuffled labels, in percent: chance; empty where there was none",
        "confidence_min_f1": "min-F1 of a small tree that sees the model's confidence alone, in percent; empty where that is not known",
        "paper_min_f1": "min-F1 by the paper's protocol, in percent",
        "eval_loss": "mean cross-entropy of the last epoch, in nats per eval sequence",
        "memgrid": "the version that made it",
        "command": "the command that makes it again, without the root",
        "settings": "all that decided the result, as JSON",
        "metrics": "all that is known of the result, as JSON: the run's `metrics.json`",
    },
    "samples": {
        "run": RUN,
        "sequence_id": SEQUENCE,
        "class": "the title of its class",
        "label": "the place of its class among the run's classes, from 0 on",
        "side": "train or eval",
        "group": "equal for near-duplicates, which never stand on both sides; empty in runs of earlier versions",
    },
    "predictions": {
        "run": RUN,
        "network": "the name of the classifier; a network of the panel is called by its kernel, its features and the pooling that it reads",
        "kind": "network (of the panel, whose answer is the mean of its networks'), baseline (needs no attention) or probe (linear)",
        "sequence_id": SEQUENCE,
        "class": "the title of its class",
        "predicted": "the class with the highest probability",
        "correct": "whether the two are equal",
        "classes": "titles of the classes, in the order of `probabilities`",
        "probabilities": "of each class, 0 to 1",
        "answer": "a class",
        "probability": "of this class, 0 to 1",
    },
    "decision_maps": {
        "run": RUN,
        "method": "of attribution: guided, gradient, integrated_gradients or gradcam",
        "class": "the title of the class",
        "samples": "eval sequences that the map is the mean over",
        "k": "tokens of the prefix: queries and keys from this place on are of the suffix",
        "map": "Δ, 0 to 1, as layers, queries and keys: `numpy.array(row['map'])[layer, query, key]`; zero where a key is after its query",
        "layer": "of the model, from 0 on",
        "query": "place of the token that looks, from 0 on",
        "key": "place of the token that is looked at, from 0 on",
        "value": "Δ there, 0 to 1; zeros are left out",
    },
    "labels": {"llm": LLM, "corpus": CORPUS, "sequence_id": SEQUENCE},
    "texts": {
        "llm": LLM,
        "corpus": CORPUS,
        "sequence_id": SEQUENCE,
        "prefix": "the text that the model is given",
        "suffix": "how the training text goes on",
        "tokens": "ids of all tokens, those of the prefix first, in the model's vocabulary",
    },
}
# Columns of labels; see docs/how-it-works.md, Label groups, and docs/memorization.md.
LABELS: dict[str, str] = {
    "memorized": "whether the model continues the prefix with the suffix, exactly, token by token",
    "confidence": "mean probability that it gives to the suffix's tokens, 0 to 1",
    "prefix_logprob": "mean log-probability of the prefix's tokens, in nats per token",
    "suffix_logprob": "mean log-probability of the suffix's tokens, in nats per token",
    "p_extract": "probability that a drawn continuation is the suffix, 0 to 1",
    "shortest_prefix": "the least number of tokens from which greedy decoding gives all the rest; the length where none does",
    "extraction_strength": "1 − shortest_prefix / length, 0 to 1",
    "min_k": "Min-K %: mean of the least fifth of the tokens' log-probabilities, in nats",
    "min_k_plus": "Min-K %++: the same of how many deviations each lies above the mean at its place",
    "zlib_ratio": "log-probability of the sequence, in nats per byte of its text when zlib has compressed it",
    "duplicates": "how often the whole sequence occurs in the training text",
    "is_repeating": "whether the text repeats one pattern",
    "is_incrementing": "whether its numbers run in arithmetic progressions",
    "rouge_l": "ROUGE-L between prefix and suffix, 0 to 1",
    "rouge_3": "ROUGE-3 between prefix and suffix, 0 to 1",
    "is_code": "whether the text is source code; empty where nobody has looked",
    "near": "least number of tokens to be changed, put in or left out until the greedy continuation is the suffix",
    "right_share": "the share of the suffix's tokens that the greedy continuation has in their place, 0 to 1",
    "counterfactual": "suffix_logprob − reference_suffix_logprob, in nats per token",
    "onset": "the training step from which on the sequence is memorized at every later one; infinite where there is none",
}


def meaning(table: str, column: str) -> str:
    """What a column means. One of labels may end in the name of what it was made by, such as `is_code_magika`."""
    if table != "labels" or column in COLUMNS[table]:
        return COLUMNS[table][column]
    own = column.removeprefix(REFERENCE) if column.startswith(REFERENCE) else column
    name = max((known for known in LABELS if own == known or own.startswith(f"{known}_")), key=len)
    made_by = f" ({own.removeprefix(name).strip('_')})" if own != name else ""
    return f"{LABELS[name]}{made_by}{', of the reference model' if own != column else ''}"
