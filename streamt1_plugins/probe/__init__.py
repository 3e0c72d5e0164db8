"""Probes of a model: what its noise, its rewards and its memory can do for a search, before any search is paid for."""
