"""Recorded runs as data for training: preference pairs and groups of candidates, with their latents or frames."""
