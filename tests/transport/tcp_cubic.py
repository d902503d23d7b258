"""TCP CUBIC (RFC 9438) with HyStart++ (RFC 9406, without its conservative phase): whom our flows have to live with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from meshd.transport.congestion.controller import Packet

C = 0.4
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)


class TcpCubic:
    def __init__(self, now: float, mtu: int = 1500) -> None:
        self.mtu = mtu
        self.window = 10 * mtu
        self.pacing_rate = math.inf
        self.send_quantum = 64 * 1024
        self.cwnd = 10.0
        self.threshold = math.inf
        self.w_max = 0.0
        self.w_est = 0.0
        self.k = 0.0
        self.epoch: float | None = None
        self.recovery = -math.inf
        self.srtt = 0.0
        self.delivered = 0
        self.round_end = 0
        self.round_rtt = math.inf
        self.last_round_rtt = math.inf

    def on_sent(self, now: float, size: int, in_flight: int) -> Packet:
        return Packet(size, now, in_flight + size, self.delivered)

    def on_acknowledged(self, now: float, packets: Sequence[Packet], in_flight: int, rtt: float | None) -> None:
        acked = 0
        for packet in packets:
            acked += packet.size
        self.delivered += acked
        if rtt is not None:
            self.srtt = self.srtt * 0.875 + rtt * 0.125 if self.srtt else rtt
            self.round_rtt = min(self.round_rtt, rtt)
        last = packets[-1]
        if last.sent <= self.recovery:
            return
        segments = acked / self.mtu
        if self.cwnd < self.threshold:
            if last.delivered >= self.round_end:
                self.last_round_rtt, self.round_rtt = self.round_rtt, math.inf if rtt is None else rtt
                self.round_end = self.delivered
            elif self.last_round_rtt < math.inf and self.round_rtt >= self.last_round_rtt + min(
                max(self.last_round_rtt / 8, 0.004), 0.016
            ):
                self.threshold = self.cwnd
            self.cwnd += segments
        elif in_flight + acked + 3 * self.mtu >= self.window:
            if self.epoch is None:
                self.epoch = now
                self.w_est = self.cwnd
                self.k = math.copysign(abs((self.w_max - self.cwnd) / C) ** (1 / 3), self.w_max - self.cwnd)
                if self.k < 0:
                    self.k, self.w_max = 0.0, self.cwnd
            t = now - self.epoch + self.srtt
            target = min(max(C * (t - self.k) ** 3 + self.w_max, self.cwnd), 1.5 * self.cwnd)
            self.w_est += ALPHA * segments / self.cwnd
            self.cwnd += (target - self.cwnd) / self.cwnd * segments
            self.cwnd = max(self.cwnd, self.w_est)
        self.window = int(self.cwnd * self.mtu)

    def on_lost(self, now: float, packets: Sequence[Packet], in_flight: int) -> None:
        if packets[-1].sent <= self.recovery:
            return
        self.recovery = now
        self.w_max = self.cwnd * (1 + BETA) / 2 if self.cwnd < self.w_max else self.cwnd
        self.cwnd = max(self.cwnd * BETA, 2.0)
        self.threshold = self.cwnd
        self.epoch = None
        self.window = int(self.cwnd * self.mtu)

    def on_timeout(self, now: float) -> None:
        self.recovery = now
        self.w_max = self.cwnd
        self.threshold = max(self.cwnd * BETA, 2.0)
        self.cwnd = 1.0
        self.epoch = None
        self.window = self.mtu

    def on_spurious(self, now: float, packets: Sequence[Packet]) -> None:
        pass

    def on_app_limited(self, in_flight: int) -> None:
        pass

    def on_mtu_change(self, mtu: int) -> None:
        pass
