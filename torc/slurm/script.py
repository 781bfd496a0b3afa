"""The batch script of an allocation, as text. Pure."""
