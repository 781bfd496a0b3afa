"""The server: the same requests over HTTP, for many runners and many users."""
