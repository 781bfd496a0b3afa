"""Passwords: hashed with argon2id (RFC 9106), compared in constant time. Tokens are random and need no slow hash."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import argon2
import bcrypt

_HASHER = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")  # at most 2^19 rounds: half a minute
_BCRYPT_BYTES = 72  # bcrypt looks at no more


def hash_password(password: str) -> str:
    """Return what is stored of a password; takes some 50 ms, and 64 MiB."""
    return _HASHER.hash(_normal(password))


def is_password(stored: str | None, password: str) -> bool:
    """Return whether a password is the one that was stored. It takes as long where none is stored: nobody learns which exist."""
    if stored is not None and _BCRYPT.fullmatch(stored):
        return bcrypt.checkpw(_normal(password)[:_BCRYPT_BYTES], stored.encode())
    try:
        matches = _HASHER.verify(stored or _nobody(), _normal(password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return matches and stored is not None


def is_outdated(stored: str) -> bool:
    """Return whether a password should be rehashed: it uses bcrypt, or fewer rounds than now."""
    return not stored.startswith("$argon2id$") or _HASHER.check_needs_rehash(stored)


def is_known_hash(stored: str) -> bool:
    """Return whether passwords can be compared with a hash of this kind."""
    if _BCRYPT.fullmatch(stored):
        return True
    try:
        argon2.extract_parameters(stored)
    except argon2.exceptions.InvalidHashError:
        return False
    return True


def _normal(password: str) -> bytes:
    # the same characters may be typed in several encodings (NIST SP 800-63B, 3.1.1.2)
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


@cache
def _nobody() -> str:
    return _HASHER.hash("the password of nobody")
