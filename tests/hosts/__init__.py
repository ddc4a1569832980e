"""Several hosts on this machine: a network with a speed, cables that are pulled, folders that are not shared."""
