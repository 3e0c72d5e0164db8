"""This process: what code of others may change in it and is put back, and the devices that its models run on."""
