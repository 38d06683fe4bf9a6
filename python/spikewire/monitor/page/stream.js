// The WebSocket: opens, decodes, and opens again when it was lost.
import { decode } from "./decode.js";

const AGAIN_MS = 1000;

/** The token stands behind # of the address, which no browser sends and no server logs. */
function token() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  try {
    if (found) {
      sessionStorage.setItem("token", found[1]);
      history.replaceState(null, "", location.pathname + location.search);
    }
    return sessionStorage.getItem("token");
  } catch {
    return found && found[1];
  }
}

export class Stream {
  /** on: {welcome(facts), record(name, fields), answer(facts), open(), lost(refused)} */
  constructor(on) {
    this.on = on;
    this.table = null;
    this.frames = 0;
    this.damaged = 0;
    this.open();
  }

  open() {
    const secret = token(), protocols = secret ? ["spikewire", secret] : ["spikewire"];
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    let opened = false;
    this.socket = new WebSocket(`${scheme}://${location.host}/stream`, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { opened = true; this.on.open(); };
    this.socket.onmessage = (event) => this.hear(event.data);
    this.socket.onclose = () => {
      this.on.lost(!opened);
      setTimeout(() => this.open(), AGAIN_MS);
    };
  }

  hear(data) {
    if (typeof data === "string") {
      const said = JSON.parse(data);
      if (said.layout) {
        this.table = said.layout;
        this.on.welcome(said);
      } else {
        this.on.answer(said);
      }
      return;
    }
    this.frames++;
    try {
      decode(data, this.table, this.on.record);
    } catch {
      this.damaged++;
    }
  }

  say(facts) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(facts));
    return true;
  }
}
