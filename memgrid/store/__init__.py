"""Attention on disk: HDF5 shards that are whole or absent."""
