"""Rewards in an environment of their own: a small HTTP protocol, its server, and a reward that asks over it."""
