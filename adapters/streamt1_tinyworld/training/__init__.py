"""Trains the tiny model from scratch: `python -m streamt1_tinyworld.training.train --help`."""
