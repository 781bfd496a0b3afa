"""Answers to requests: plain functions of a transaction and a request.

The package does not import its modules: `dispatch` imports the module that answers a request on first use.
"""
