"""WebRTC links. The only room that knows asyncio and aiortc.

``guest`` puts trio on aiortc's loop. ``port`` takes the core's commands and delivers its events; ``link`` is the life
of one link, made of ``gathering``, ``remote`` (the other side's description), ``ice`` and ``consent``, ``dtls`` and
``certificate``, ``association`` (the shell around ``meshd.transport``), ``outbox`` and ``streams``. ``webrtc`` is where
aiortc is imported.

Streams over others: ``circuits`` are what a link carries of them, ``circuit_board`` knows who is at their ends:
``relaying`` forwards from one link to another, ``relayed_stream`` seals and opens at the two ends. ``local_end`` is the
descriptor of any stream.

A packet of a peer goes ``socket`` - ``demux`` - ``dtls`` - ``association`` - ``link`` in one chain of calls: no task,
no queue, nothing that waits. What it causes to be sent leaves when the socket has nothing more to read.

What all links share: ``socket`` and ``demux``; ``addresses``, under which this machine can be reached, as ``netlink``
(the kernel), ``reflections`` (STUN) and ``turn`` (relays) say. ``checks`` is how a way between two machines is found,
``mobility`` how another is when it is gone, ``resumption`` what an ICE restart leaves behind; a ``path`` is our end of
one.
"""
