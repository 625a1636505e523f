"""Imported by the process that commands are forked from: what each of them would work out anew, in a fifth of a second."""

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("gpt_neox")
