"""Meshes of a hundred to ten thousand real nodes: scenarios from TOML files, what is measured in them, reports."""
