"""Reward models at work: what they are given, how their raw scores are calibrated, and how failures are handled."""
