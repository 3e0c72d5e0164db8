"""Text on its way to a terminal: nothing that comes from elsewhere can steer one."""
