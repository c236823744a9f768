// A client of the gateway for web pages and Node: one image, or a stream of frames.
//
//   const gateway = new Gateway("http://127.0.0.1:8600", token);
//   const answer = await gateway.detect(blob, { confidence: 0.5 });
//   const stream = await gateway.stream({ classes: "car,person" });
//   const answer = await stream.send(blob);

export class GatewayError extends Error {
  constructor(status, detail) {
    super(`${status}: ${detail}`);
    this.status = status;
    this.detail = detail;
  }
}

export class Gateway {
  /** token: of the role stream; leave it out where the gateway is open. */
  constructor(url, token = "") {
    this.url = url.replace(/\/+$/, "");
    this.token = token;
  }

  /** The answer for one image, a Blob or File. options: confidence, classes, deadline_ms, … */
  async detect(image, options = {}) {
    const headers = { "Content-Type": image.type || "application/octet-stream" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const query = new URLSearchParams(options);
    const response = await fetch(`${this.url}/v1/detect?${query}`, {
      method: "POST",
      headers,
      body: image,
    });
    const answer = await response.json();
    if (!response.ok) throw new GatewayError(response.status, answer.detail);
    return answer;
  }

  /** An open stream. options: as of detect, and session, or a ticket in place of the token. */
  stream(options = {}) {
    const query = new URLSearchParams(options);
    const protocols = ["gearshift.v1"];
    // A browser's WebSocket sets no Authorization header, so the token is offered as a protocol.
    if (this.token && !options.ticket) protocols.push(`bearer.${this.token}`);
    const url = `${this.url.replace(/^http/, "ws")}/v1/stream?${query}`;
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, protocols);
      socket.onopen = () => resolve(new Stream(socket));
      // The reason of a refusal is hidden from pages; POST /v1/tickets with the token tells it.
      socket.onerror = () => reject(new GatewayError(0, `no stream at ${this.url}`));
    });
  }
}

export class Stream {
  constructor(socket) {
    this.socket = socket;
    this.count = 0;
    this.waiting = new Map(); // by frame number
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => {
      const error = new GatewayError(event.code, event.reason || "the stream has ended");
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  /** The answer for the next frame; null when the gateway dropped it for a newer one. */
  send(image) {
    if (this.socket.readyState !== WebSocket.OPEN)
      return Promise.reject(new GatewayError(0, "the stream has ended"));
    const frame = this.count++;
    return new Promise((resolve, reject) => {
      this.waiting.set(frame, { resolve, reject });
      this.socket.send(image);
    });
  }

  close() {
    this.socket.close();
  }

  #receive(message) {
    if (message.type === "dropped") message.frames.forEach((frame) => this.#settle(frame, null));
    else if (message.type === "detections") this.#settle(message.frame, message);
    else if (message.frame !== null)
      this.#settle(message.frame, null, new GatewayError(message.status, message.detail));
  }

  #settle(frame, answer, error) {
    const { resolve, reject } = this.waiting.get(frame) ?? {};
    this.waiting.delete(frame);
    if (error) reject?.(error);
    else resolve?.(answer);
  }
}
