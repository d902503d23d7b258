"""How many links a member wants, and how many it takes."""

from __future__ import annotations

import math

# Policy
BESIDE_LOGARITHM = 2  # a random graph with ln n + 2 links each is connected almost surely
ACCEPTED_TO_WANTED = 2
SPARE_LINKS = 2  # beyond what is wanted that are not worth shedding


def wanted_links(members: int, max_full_mesh: int) -> int:
    """Dial until there are so many: everybody while the mesh is small, then a number that grows with the logarithm."""
    return members - 1 if members <= max_full_mesh else math.ceil(math.log(members)) + BESIDE_LOGARITHM


def accepted_links(members: int, max_full_mesh: int) -> int:
    """Answer offers until there are so many."""
    return members if members <= max_full_mesh else ACCEPTED_TO_WANTED * wanted_links(members, max_full_mesh)
