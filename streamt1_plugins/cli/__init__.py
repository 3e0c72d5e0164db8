"""The subcommands of `streamt1`, one file each. None of them imports torch before it has to."""
