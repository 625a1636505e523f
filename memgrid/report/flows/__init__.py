"""How memorized sequences flow from the classes of one taxonomy to those of another, each at any thresholds."""
