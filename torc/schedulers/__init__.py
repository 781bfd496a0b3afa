"""Batch schedulers of clusters, one package each."""
