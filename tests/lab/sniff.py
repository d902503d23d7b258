"""Prints where UDP packets go that pass an interface, each destination once: ``python sniff.py INTERFACE``."""

from __future__ import annotations

import socket
import sys

ETH_P_ALL, ETH_P_IP, UDP = 0x0003, 0x0800, 17


def main(interface: str) -> None:
    seen: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind((interface, 0))
        print("ready", flush=True)
        while True:
            frame, address = wire.recvfrom(2048)
            packet = frame[14:]
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] != ETH_P_IP.to_bytes(2, "big") or packet[9] != UDP:
                continue
            destination = socket.inet_ntoa(packet[16:20])
            if destination not in seen:
                seen.add(destination)
                print(destination, flush=True)


main(sys.argv[1])
