"""Scores of classifiers, how sure they are, and whether classes are told apart."""
