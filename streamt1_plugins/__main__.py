"""``python -m streamt1_plugins`` is `streamt1`."""

from streamt1_plugins.cli.main import main

main()
