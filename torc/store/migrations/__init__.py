"""Alembic migrations of the store. `torc.store.alembic_runner` runs them."""
