"""The shell that runs the core: driver, store, lifecycle, systemd, logs."""
