"""Recipes: their schema, how they are loaded, and their JSON Schema."""
