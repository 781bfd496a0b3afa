"""Schema versions, one module each."""
