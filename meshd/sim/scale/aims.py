"""What a scenario may be measured by: each measure's name, unit, and which way is good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aim:
    """``at_most``: less is better, else more. ``form`` prints a value."""

    doc: str
    at_most: bool
    form: str = "{:.2f}"

    def is_met(self, value: float, wanted: float) -> bool:
        """Whether that is good enough; a value that could not be measured (nan) is not."""
        return value <= wanted if self.at_most else value >= wanted

    def shown(self, value: float) -> str:
        """The value for people."""
        return self.form.format(value) if value == value else "not measured"


def _most(doc: str, form: str = "{:.2f}") -> Aim:
    return Aim(doc, True, form)


def _least(doc: str, form: str = "{:.2f}") -> Aim:
    return Aim(doc, False, form)


AIMS: dict[str, Aim] = {
    "joined_share": _least("share of those who tried that are members", "{:.2%}"),
    "joined_seconds": _most("seconds from the first join to the last member", "{:.1f} s"),
    "mean_degree": _most("links of a living member, on average, at the end"),
    "max_degree": _most("links of the member that has most, at any look", "{:.0f}"),
    "min_degree": _least("links of the member that has fewest, at the end", "{:.0f}"),
    "components": _most("parts that living members fall into at the end", "{:.0f}"),
    "mean_hops": _most("links that a message crosses, by the next hops that members name, on average"),
    "max_hops": _most("the most of these", "{:.0f}"),
    "routable_share": _least("share of pairs whose next hops lead from one to the other", "{:.2%}"),
    "healed_seconds": _most(
        "seconds from a crash until the living are one part and next hops lead everywhere", "{:.1f} s"
    ),
    "merged_seconds": _most("seconds from the end of a partition until the same", "{:.1f} s"),
    "delivered_share": _least("share of messages delivered in 30 s, between pairs that live through these", "{:.3%}"),
    "broadcast_share": _least("share of members that live through the 30 s after a broadcast and get it", "{:.3%}"),
    "broadcast_copies": _most("copies of a broadcast's payload that reach a member, on average"),
    "control_rate": _most("bytes a second of control traffic that each member sends", "{:,.0f} B/s"),
    "max_control_rate": _most("the same of the member that sends most", "{:,.0f} B/s"),
    "delivery_median": _most("seconds until half of the messages were there", "{:.2f} s"),
    "fullest": _most("how full the fullest queue or map of the nodes looked into was, of its limit", "{:.1%}"),
    "cpu_share": _most("CPU seconds that a node takes for a second, on this machine", "{:.3%}"),
    "intruders": _most("strangers, revoked or invented members that somebody holds for members", "{:.0f}"),
    "impersonations": _most("messages delivered under another's name", "{:.0f}"),
}
