// Choosing and reporting from a browser. No dependencies; an ES module.
//
//   import { ArtworkBandit } from "https://bandit.example/static/artwork-bandit.js";
//   const bandit = new ArtworkBandit({ address: "https://bandit.example", member: "m-17" });
//   const choices = await bandit.choose(["stranger-things"], { context: { device: "web" } });
//   image.src = choices[0].uri ?? defaultPicture;
//   bandit.observe(image, choices[0]);        // impression when really visible, and clicks
//   bandit.event("play", choices[0], { seconds_watched: 2700, duration_seconds: 3000 });
//
// choose() never rejects: what goes wrong gives choices without a variant, `fallback` true. Events
// are sent in batches, again with the same ids until they are acknowledged, and by sendBeacon when
// the page is hidden. Bodies are sent as text/plain, which needs no CORS preflight.

const LARGEST_BYTES = 50000; // browsers refuse beacons and keepalive bodies of over 64 kB
const MOST_WAITING = 5000;
const LONGEST_PAUSE = 30000;
// How the service says that what it was sent breaks a rule; other answers are a gateway's.
const REFUSALS = [400, 409, 413, 422];

const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

export class ArtworkBandit {
  #address; #timeout; #flushAfter; #visibleFor; #waiting = []; #timer = null; #sending = false;
  #failures = 0; #observed = new Map(); #observer; #hidden;

  // timeout, flushAfter, visibleFor: milliseconds. A picture is seen when half of it has been in
  // view for visibleFor.
  constructor({ address = "", member, timeout = 500, flushAfter = 1000, visibleFor = 500 }) {
    this.member = member;
    this.#address = address.replace(/\/$/, "");
    this.#timeout = timeout;
    this.#flushAfter = flushAfter;
    this.#visibleFor = visibleFor;
    this.#observer = new IntersectionObserver((entries) => this.#seen(entries), { threshold: 0.5 });
    this.#hidden = () => { if (document.visibilityState === "hidden") this.#beacon(); };
    document.addEventListener("visibilitychange", this.#hidden);
    addEventListener("pagehide", this.#hidden);
  }

  // With `preview` nothing is logged, and its choices are not to be reported on.
  async choose(titleIds, { slot = "artwork", context = {}, requestId = newId(), preview = false, explain = false } = {}) {
    const body = { request_id: requestId, member_id: this.member, slot, title_ids: titleIds, context, preview, explain };
    const signal = AbortSignal.timeout(this.#timeout);
    for (let attempt = 0; attempt < 2 && !signal.aborted; attempt++) {
      try {
        const response = await this.#post("/v1/choices", body, { signal });
        if (response.ok) return (await response.json()).choices;
        if (REFUSALS.includes(response.status)) {
          console.error("artwork-bandit:", (await response.json()).detail);
          break;
        }
      } catch { /* unreachable or too late: the same id may be asked again */ }
    }
    return titleIds.map((title_id) => ({
      title_id, variant_id: null, uri: null, decision_id: null, propensity: null,
      fallback: true, reason: "unreachable",
    }));
  }

  // Report an impression once the element is really visible, and clicks on it.
  observe(element, choice) {
    this.unobserve(element);
    if (!choice.decision_id) return;
    const click = () => this.event("click", choice);
    element.addEventListener("click", click);
    this.#observed.set(element, { choice, click, timer: null, shown: false });
    this.#observer.observe(element);
  }

  unobserve(element) {
    const known = this.#observed.get(element);
    if (!known) return;
    clearTimeout(known.timer);
    element.removeEventListener("click", known.click);
    this.#observer.unobserve(element);
    this.#observed.delete(element);
  }

  event(type, choice, fields = {}) {
    if (!choice.decision_id || this.#waiting.length >= MOST_WAITING) return;
    this.#waiting.push({
      event_id: newId(), type, occurred_at: new Date().toISOString(),
      decision_id: choice.decision_id, ...fields,
    });
    this.#later(this.#flushAfter);
  }

  // At sign-in: what the anonymous visitor did is the member's from now on.
  merge(member) {
    this.#waiting.push({
      event_id: newId(), type: "merge", occurred_at: new Date().toISOString(),
      visitor_id: this.member, member_id: member,
    });
    this.member = member;
    this.#later(this.#flushAfter);
  }

  // Send what waits now; resolves when it is acknowledged or has to be tried again later.
  async flush() {
    if (this.#sending || !this.#waiting.length) return;
    this.#sending = true;
    clearTimeout(this.#timer);
    this.#timer = null;
    const batch = this.#batch();
    try {
      const response = await this.#post("/v1/events", { events: batch }, { keepalive: true });
      if (!response.ok && !REFUSALS.includes(response.status)) throw new Error(`answered ${response.status}`);
      const report = await response.json().catch((error) => {
        if (response.ok) throw error;
        return { detail: `answered ${response.status}` };
      });
      for (const { index, reason } of report.rejected ?? []) {
        console.warn("artwork-bandit: rejected", batch[index]?.type, reason);
      }
      if (!response.ok) console.error("artwork-bandit:", report.detail);
      const sent = new Set(batch);
      this.#waiting = this.#waiting.filter((event) => !sent.has(event));
      this.#failures = 0;
    } catch {
      this.#failures += 1;
    } finally {
      this.#sending = false;
    }
    if (this.#waiting.length) {
      this.#later(this.#failures ? Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures) : 0);
    }
  }

  close() {
    this.#beacon();
    clearTimeout(this.#timer);
    for (const element of [...this.#observed.keys()]) this.unobserve(element);
    this.#observer.disconnect();
    document.removeEventListener("visibilitychange", this.#hidden);
    removeEventListener("pagehide", this.#hidden);
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const known = this.#observed.get(target);
      if (!known || known.shown) continue;
      clearTimeout(known.timer);
      known.timer = !isIntersecting ? null : setTimeout(() => {
        known.shown = true;
        this.event("impression", known.choice);
        this.#observer.unobserve(target);
      }, this.#visibleFor);
    }
  }

  // The page may never come back. What also goes out by fetch is harmless: the ids are the same.
  #beacon() {
    while (this.#waiting.length) {
      const batch = this.#batch();
      const body = new Blob([JSON.stringify({ events: batch })], { type: "text/plain" });
      if (!navigator.sendBeacon(`${this.#address}/v1/events`, body)) return;
      this.#waiting = this.#waiting.slice(batch.length);
    }
  }

  // The oldest events that fit, at least one.
  #batch() {
    let bytes = 0;
    const end = this.#waiting.findIndex((event) => {
      bytes += new TextEncoder().encode(JSON.stringify(event)).length + 1;
      return bytes > LARGEST_BYTES;
    });
    return end < 0 ? this.#waiting.slice() : this.#waiting.slice(0, Math.max(end, 1));
  }

  #later(milliseconds) {
    this.#timer ??= setTimeout(() => { this.#timer = null; this.flush(); }, milliseconds);
  }

  #post(path, body, more) {
    return fetch(this.#address + path, {
      method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "text/plain" },
      credentials: "omit", ...more,
    });
  }
}
