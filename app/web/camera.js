const WIDTH = 320; // pixels that are sent: models look at fewer
const SHOWN_SECONDS = 60; // of the timeline

/** What the camera shows, step by step, until `signal` is aborted: labels, segments of the last minute. */
export async function* watchCamera(video, model, key, signal) {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on https:// and localhost.");
  const camera = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } }).catch(() => {
    throw new Error("There is no camera, or it may not be used."); // each browser has words of its own, for programmers
  });
  const release = () => {
    for (const track of camera.getTracks()) track.stop();
    if (video.srcObject === camera) video.srcObject = null; // else a clip has taken its place
  };
  signal.addEventListener("abort", release);
  try {
    if (!signal.aborted) yield* watch(camera, video, model, key, signal); // whoever was asked may have taken long
  } catch (problem) {
    if (!signal.aborted) throw problem; // what fails because it was stopped is no problem
  } finally {
    release();
  }
}

async function* watch(camera, video, model, key, signal) {
  const socket = new WebSocket(address(model), key ? ["afterframe", `afterframe.key.${key}`] : []);
  const close = () => socket.close(1000);
  signal.addEventListener("abort", close);
  for (const track of camera.getTracks()) track.addEventListener("ended", close); // unplugged, or forbidden again
  const inbox = new Inbox(socket);
  let timer = 0;
  try {
    video.srcObject = camera;
    video.controls = false;
    video.muted = true; // or it may not begin by itself
    await video.play();
    await inbox.opened;
    socket.send(JSON.stringify({ type: "start", backpressure: "drop", pace: "model" }));
    const welcome = await inbox.next();
    if (!welcome) throw new Error("The service has closed the stream.");
    if (welcome.type !== "welcome") throw { status: welcome.code, ...welcome };
    const sentAt = [];
    const send = sender(video, socket, sentAt);
    timer = setInterval(send, 1000 / welcome.rate);
    yield* told(inbox, welcome, sentAt, signal);
    if (camera.active && !signal.aborted) throw new Error("The service cannot be reached any more.");
  } finally {
    clearInterval(timer);
    close();
  }
}

async function* told(inbox, { labels, rate }, sentAt, signal) {
  const closed = [];
  const open = new Map();
  for (let step = await inbox.next(); step && !signal.aborted; step = await inbox.next()) {
    if (step.type === "closing") throw { status: step.code, ...step };
    if (step.type !== "step" || !step.smoothed) continue; // some models answer a few steps late
    for (const segment of step.closed ?? []) {
      open.delete(segment.label);
      closed.push(segment);
    }
    for (const segment of step.opened ?? []) open.set(segment.label, segment);
    const last = Math.max(step.seconds, SHOWN_SECONDS);
    const first = last - SHOWN_SECONDS;
    while (closed.length && closed[0].end_seconds < first) closed.shift();
    const present = [...open.values()].map((segment) => ({ ...segment, end_seconds: step.seconds }));
    const scores = labels.map((label, index) => ({ label, score: step.smoothed[index] }));
    yield {
      labels: scores.sort((one, other) => other.score - one.score).slice(0, 6),
      segments: [...closed, ...present],
      first,
      last,
      rate,
      milliseconds: performance.now() - sentAt[step.picture],
    };
  }
}

/** A function that sends the picture on display, its time before it; one at a time. */
function sender(video, socket, sentAt) {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = Math.round((WIDTH * video.videoHeight) / video.videoWidth);
  const began = performance.now();
  let isBusy = false;
  return () => {
    if (isBusy || socket.readyState !== WebSocket.OPEN) return;
    isBusy = true;
    const seconds = (performance.now() - began) / 1000;
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(
      (jpeg) => {
        isBusy = false;
        if (socket.readyState !== WebSocket.OPEN) return;
        const time = new DataView(new ArrayBuffer(8));
        time.setFloat64(0, seconds, true);
        sentAt.push(performance.now());
        socket.send(new Blob([time, jpeg]));
      },
      "image/jpeg",
      0.85,
    );
  };
}

/** The messages of a socket, to be waited for one after the other; null when it has closed. */
class Inbox {
  constructor(socket) {
    this.messages = [];
    this.wake = () => {};
    this.opened = new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", () => reject(new Error("The service cannot be reached.")));
    });
    const take = (message) => {
      this.messages.push(message);
      this.wake();
    };
    socket.addEventListener("message", ({ data }) => take(JSON.parse(data)));
    socket.addEventListener("close", () => take(null));
  }

  async next() {
    while (!this.messages.length) await new Promise((resolve) => (this.wake = resolve));
    return this.messages.shift();
  }
}

function address(model) {
  const url = new URL(`stream?${new URLSearchParams({ model })}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}
