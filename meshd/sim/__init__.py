"""The world around real nodes: a seeded network, push service and store in virtual time."""
