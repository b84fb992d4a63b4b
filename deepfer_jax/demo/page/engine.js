// The program that finds faces: here the server that the page came from.

const RETRY = 1000; // milliseconds

export class Offline extends Error {}

export const PRIVACY =
  "Classifies the expression of faces. Pictures go from this page to the program on this machine and nowhere else; none is kept.";

export class Engine {
  // onState is told "offline" and "online".
  constructor(onState) {
    this.onState = onState;
    this.smoothing = 0.4;
    // Behind the # it is in no server's log.
    this.token = new URLSearchParams(location.hash.slice(1)).get("token");
    this.connect();
  }

  query(more = {}) {
    const all = new URLSearchParams(this.token ? { token: this.token, ...more } : more);
    return all.size ? `?${all}` : "";
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/stream${this.query()}`);
    this.socket = socket;
    this.sent = 0;
    this.pending = new Map();
    socket.onopen = () => { this.setSmoothing(this.smoothing); this.onState("online"); };
    socket.onmessage = (event) => {
      const answer = JSON.parse(event.data);
      const request = this.pending.get(answer.frame);
      if (!request) return; // of no frame, or of one that is no longer waited for
      this.pending.delete(answer.frame);
      if (answer.error) request.reject(Object.assign(new Error(answer.error), answer));
      else request.resolve(answer);
    };
    socket.onclose = () => {
      for (const request of this.pending.values()) request.reject(new Offline());
      this.pending.clear();
      this.onState("offline");
      setTimeout(() => this.connect(), RETRY);
    };
  }

  get isOnline() { return this.socket.readyState === WebSocket.OPEN; }

  setSmoothing(seconds) {
    this.smoothing = seconds;
    if (this.isOnline) this.socket.send(JSON.stringify({ smoothing: seconds }));
  }

  async readClasses() {
    try {
      return (await (await fetch("/healthz")).json()).classes;
    } catch { throw new Offline(); }
  }

  // A frame of a camera or video, in a canvas: its faces, with tracks.
  async readFrame(canvas) {
    const blob = await toJpeg(canvas);
    if (!this.isOnline) throw new Offline();
    const number = ++this.sent;
    return new Promise((resolve, reject) => {
      this.pending.set(number, { resolve, reject });
      this.socket.send(blob);
    });
  }

  // The same, and why the first of them were read so.
  explain(canvas) { return this.readPhoto(canvas, { explain: 1 }); }

  // A photograph: its faces, small ones too.
  async readPhoto(canvas, more = {}) {
    const blob = await toJpeg(canvas);
    let response;
    try {
      response = await fetch(`/v1/analyze${this.query(more)}`, { method: "POST", body: blob });
    } catch { throw new Offline(); }
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error), answer);
    return answer;
  }
}

const toJpeg = (canvas) => new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
