"""Why attempts failed, and what to do about it. Pure."""
