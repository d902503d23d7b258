"""WebRTC links. The only room that knows asyncio and aiortc.

``guest`` puts trio on aiortc's loop. ``port`` takes the core's commands and delivers its events; ``link`` is the life
of one link, made of ``gathering``, ``remote`` (the other side's description), ``ice``, ``certificate``, ``sctp`` and
``outbox``. ``webrtc`` is where aiortc is imported.
"""
