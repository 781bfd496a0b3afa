"""The contract between clients and stores: typed requests and replies. No SQL, no HTTP, no clock.

The package does not import its modules, so that a command loads only what it uses; `torc.api.registry` imports all of them.
"""
