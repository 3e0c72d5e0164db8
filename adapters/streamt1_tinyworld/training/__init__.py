"""Training the tiny model from nothing: `python -m streamt1_tinyworld.training.train --help`."""
