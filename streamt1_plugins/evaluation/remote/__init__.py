"""Rewards in an environment of their own: an HTTP protocol, its server, and a reward that calls the server."""
