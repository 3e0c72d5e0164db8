"""What this distribution offers. Imported at discovery, so it names code as "module:attr" and imports none of it."""

from streamt1_plugins import hookimpl


@hookimpl
def streamt1_register_rewards(register):
    register("redness", target="streamt1_example.reward:Redness")


@hookimpl
def streamt1_register_policies(register):
    register("family", kind="selection", target="streamt1_example.policy:Family")
