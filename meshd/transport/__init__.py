"""SCTP of our own, and its congestion control: pure, synchronous, without a clock.

Stands under ``meshd.links`` and knows nothing of it; simulators and fuzzers run the same code.
"""
