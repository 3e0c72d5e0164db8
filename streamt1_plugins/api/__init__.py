"""All that the author of an adapter, a reward, a policy or an observer imports; exported by `streamt1_plugins`."""
