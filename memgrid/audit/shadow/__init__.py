"""Shadow models: data, population, training, predictors and the likelihood ratio attack."""
