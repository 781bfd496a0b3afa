"""The contract between whoever asks and whoever answers: typed requests and replies. No SQL, no HTTP, no clock.

The package imports none of its modules, so that a command loads what it asks for; `torc.api.registry` has all of them.
"""
