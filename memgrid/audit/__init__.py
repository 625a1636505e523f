"""Which training samples will a classifier memorize? Predicted early from one model, and checked against shadow models.

After Dentan et al., "Predicting memorization within Large Language Models fine-tuned for classification" (ECAI 2025), whose experiment on
images this is. `python -m memgrid.audit` goes through its stages: prepare, train, attack, report.
"""
