"""Congestion control: how much may be in flight, and how fast it may leave.

A room within the room: pure, without a clock. Times are monotonic seconds and come in as arguments, so that the very
code that runs under a link is also run by a simulator of paths, repeatable to the byte. ``controller`` has the
protocol and the factory, ``bbr`` the one we run, ``reno`` the fallback, ``pacer`` what turns a rate into bursts.
``docs/congestion.md`` explains the algorithm and shows what it does.
"""
