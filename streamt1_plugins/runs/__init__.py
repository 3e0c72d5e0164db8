"""A run on disk: journal, checkpoint, observers that write files, and the report page."""
