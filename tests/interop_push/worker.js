// The service worker: Firefox has decrypted what event.data holds; the page is told the bytes.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => {
  const tell = async () => {
    const bytes = event.data.arrayBuffer();
    for (const client of await self.clients.matchAll({ includeUncontrolled: true })) client.postMessage(bytes);
  };
  event.waitUntil(tell());
});
