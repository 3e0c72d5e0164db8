"""Comparisons: the same prompts and seeds under several recipes, judged by a reward that no search selects on."""
