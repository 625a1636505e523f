"""wandb: offline by default, never the text of a sequence."""
