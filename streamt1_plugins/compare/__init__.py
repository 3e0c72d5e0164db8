"""Comparisons: the same prompts and seeds under several recipes, judged by something the search never saw."""
