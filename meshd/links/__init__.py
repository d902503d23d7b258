"""WebRTC links. The only room that knows asyncio and aiortc."""
