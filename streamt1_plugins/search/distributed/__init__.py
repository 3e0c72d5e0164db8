"""Several processes: who they are (`world`), how they share a search (`processes`), what they last said (`board`)."""
