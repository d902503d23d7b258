// In the page: subscribe with somebody's VAPID key, and hear from the worker what it was pushed.

{
  const got = [];
  let wake = () => {};
  const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  navigator.serviceWorker.onmessage = ({ data }) => {
    got.push(base64(data));
    wake();
  };
  globalThis.peer = {
    async subscribe(applicationServerKey) {
      await navigator.serviceWorker.register("/worker.js");
      const { pushManager } = await navigator.serviceWorker.ready;
      return (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey })).toJSON();
    },
    async next() {
      while (got.length === 0) await new Promise((resolve) => (wake = resolve));
      return got.shift();
    },
    async unsubscribe() {
      const { pushManager } = await navigator.serviceWorker.ready;
      return (await pushManager.getSubscription()).unsubscribe();
    },
  };
}
null;
