"""Draws the mesh: what ``mesh.graph`` says becomes a ``model``, its ``layout`` places, and ``svg`` or ``dot`` text."""
