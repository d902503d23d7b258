"""Pictures of a run: matplotlib, an optional extra (``pip install meshd[sim]``)."""

from __future__ import annotations

from pathlib import Path

from meshd.errors import MeshError
from meshd.sim.scale.play import Play


class PlotsUnavailable(MeshError):
    """Matplotlib is not here."""


def plot(play: Play, folder: Path) -> Path:
    """One picture of four over time: who lives, degrees, parts, control traffic; gives its path.

    Raises PlotsUnavailable, OSError.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotsUnavailable("plots need matplotlib; install it with: pip install 'meshd[sim]'") from None
    looks = play.looks
    times = [look.when for look in looks]
    figure = Figure(figsize=(10, 7), layout="constrained")
    rows = figure.subplots(2, 2, sharex=True).flatten()
    rows[0].plot(times, [look.living for look in looks])
    rows[0].set_title("living members")
    rows[1].plot(times, [look.mean_degree for look in looks], label="mean")
    rows[1].plot(times, [look.max_degree for look in looks], label="most")
    rows[1].set_title("links of a member")
    rows[1].legend()
    rows[2].step(times, [look.parts for look in looks])
    rows[2].set_title("parts")
    rows[3].plot(times, [look.rate for look in looks])
    rows[3].set_title("control traffic, bytes/s and member")
    for row in rows:
        row.set_ylim(bottom=0)
        row.grid(alpha=0.3)
    for row in rows[2:]:
        row.set_xlabel("simulated seconds")
    figure.suptitle(f"{play.script.name}, {play.nodes} nodes, seed {play.seed}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{play.script.name}-{play.nodes}-seed{play.seed}.svg"
    figure.savefig(path)
    return path
