"""Toolkit for authors of rewards: finds weights, reads checkpoints, preprocesses frames, caches features."""
