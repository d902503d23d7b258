"""The cast of the core's tests (``playbook``, ``crowd``, ``pages``, ``theft``) is for all rooms below."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
