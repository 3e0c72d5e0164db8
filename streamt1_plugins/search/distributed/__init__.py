"""Several processes that search one video: how they are launched, connected, and share the candidates."""
