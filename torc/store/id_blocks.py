"""Ids in blocks, so that rows made together have consecutive ids on every database."""

from __future__ import annotations

from sqlalchemy import Connection, text

_TAKE = text(
    "INSERT INTO id_block (name, next_id) VALUES (:name, 1 + :n) "
    "ON CONFLICT (name) DO UPDATE SET next_id = id_block.next_id + :n RETURNING next_id - :n"
)


def take_ids(db: Connection, table: str, number: int = 1) -> int:
    """Take a block of ids of a table and give the first."""
    return int(db.execute(_TAKE, {"name": table, "n": number}).scalar_one())
