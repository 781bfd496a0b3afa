"""Answers to requests: plain functions of a transaction and a request. Importing the package enters all of them."""

from torc.operations import create, data, exchange, jobs, reinitialize, reset, results, runs, workflows

__all__ = ["create", "data", "exchange", "jobs", "reinitialize", "reset", "results", "runs", "workflows"]
