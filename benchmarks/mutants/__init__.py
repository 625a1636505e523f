"""Mutation testing: small changes of the definitions, of which each has to make a test fail. `make mutate`."""
