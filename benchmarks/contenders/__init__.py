"""The ways to record that are measured: one module each, with `make(folder)`."""
