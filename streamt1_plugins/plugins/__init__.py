"""From installed plugins to the objects of one run: discovery, name tables, building, hooks."""
