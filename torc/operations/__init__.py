"""Answers to requests: plain functions of a transaction and a request.

The package imports none of its modules: `dispatch` imports what answers a request when it is asked the first time.
"""
