// The dashboard's only script. Pages are drawn on the server; this keeps them fresh, counts clocks up, shows what
// running steps say, and remembers the theme. It builds no markup of its own: parts of a page come from the server
// and replace what carries the same id, text from models is only ever set as text.
"use strict";

(() => {
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  // ---- theme: set before the page is painted

  function storedTheme() {
    try { return localStorage.getItem("bursar-theme"); } catch { return null; }
  }

  function applyTheme(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  let theme = THEMES.includes(storedTheme()) ? storedTheme() : "auto";
  applyTheme(theme);

  function startTheme() {
    const button = document.getElementById("theme");
    if (!button) return;
    const label = () => { button.textContent = `Theme: ${theme}`; };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      try { localStorage.setItem("bursar-theme", theme); } catch { /* private window: it holds for this page */ }
      applyTheme(theme);
      label();
    });
  }

  // ---- clocks: durations that grow, by the server's time

  let ahead = 0;

  function duration(ms) {
    const seconds = Math.floor(Math.max(0, ms) / 1000);
    const two = (value) => String(value).padStart(2, "0");
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds % 3600 / 60))} min`;
    return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
  }

  function tick() {
    const now = Date.now() + ahead;
    for (const clock of document.querySelectorAll("[data-since]")) {
      clock.textContent = duration(now - Number(clock.dataset.since));
    }
  }

  // ---- parts: fetched again and swapped in where they differ

  function keepers(part) {
    const open = [...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
    const scrolled = [...part.querySelectorAll("[id]")]
      .filter((box) => box.scrollLeft || box.scrollTop)
      .map((box) => [box.id, box.scrollLeft, box.scrollTop]);
    const typed = [...part.querySelectorAll("input[id], textarea[id]")].map((field) => [field.id, field.value]);
    const active = document.activeElement;
    const focus = active && active !== document.body && part.contains(active) ? active.id : "";
    return () => {
      for (const [id, isOpen] of open) {
        const details = document.getElementById(id);
        if (details) details.open = isOpen;
      }
      for (const [id, left, top] of scrolled) {
        const box = document.getElementById(id);
        if (box) { box.scrollLeft = left; box.scrollTop = top; }
      }
      for (const [id, value] of typed) {
        const field = document.getElementById(id);
        if (field && value) field.value = value;
      }
      if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    };
  }

  // the text of a part without its clocks, which differ every time
  function fingerprint(part) {
    const copy = part.cloneNode(true);
    for (const clock of copy.querySelectorAll("[data-since]")) clock.textContent = "";
    for (const said of copy.querySelectorAll("[data-said], [data-words]")) said.textContent = "";
    for (const details of copy.querySelectorAll("details[id]")) details.open = false;
    return copy.outerHTML;
  }

  function swap(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    let swapped = false;
    for (const part of fresh.querySelectorAll("[data-swap]")) {
      const old = document.getElementById(part.id);
      if (!old || fingerprint(old) === fingerprint(part)) continue;
      const restore = keepers(old);
      old.replaceWith(document.adoptNode(part));
      restore();
      announce(part);
      swapped = true;
    }
    if (swapped) { speak(); tick(); }
  }

  let announced = "";

  function announce(part) {
    if (part.dataset.title) document.title = part.dataset.title;
    const words = part.dataset.announce;
    if (!words || words === announced) return;
    announced = words;
    document.getElementById("announce").textContent = words;
  }

  let fetching = false;
  let again = false;

  async function refresh(main) {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(main.dataset.parts, { credentials: "same-origin", redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      swap(await answer.text());
      connection(steady);
    } catch {
      connection("not up to date");
    } finally {
      fetching = false;
      if (again) { again = false; later(main, 400); }
    }
  }

  let timer = 0;

  function later(main, ms) {
    if (timer) return;
    timer = setTimeout(() => { timer = 0; refresh(main); }, ms);
  }

  // what is said about the connection while all is well
  let steady = "";

  function connection(words) {
    const place = document.getElementById("connection");
    if (place && place.textContent !== words) place.textContent = words;
  }

  function startPolling(main) {
    const every = Number(main.dataset.pollMs);
    setInterval(() => { if (document.visibilityState === "visible") refresh(main); }, every);
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") refresh(main);
    });
  }

  // ---- what running steps say

  const MOST_LETTERS = 65536;
  const said = new Map();

  function hear(piece) {
    let speech = said.get(piece.task);
    if (!speech || speech.attempt < piece.attempt || piece.whole !== undefined) {
      // whoever comes in the middle of a sentence sees that there was more
      const before = piece.index > 0 ? "… " : "";
      speech = { attempt: piece.attempt, text: piece.whole ?? before, next: piece.index, dirty: true };
      said.set(piece.task, speech);
      if (piece.whole !== undefined) return;
    }
    // an older attempt's words, or a piece that the snapshot held already
    if (piece.attempt < speech.attempt || piece.index < speech.next) return;
    speech.text = (speech.text + piece.text).slice(-MOST_LETTERS);
    speech.next = piece.index + 1;
    speech.dirty = true;
  }

  function speak() {
    for (const place of document.querySelectorAll("[data-said]")) {
      const speech = said.get(place.dataset.said);
      if (!speech || String(speech.attempt) !== place.dataset.attempt) continue;
      if (place.textContent.length === speech.text.length && !speech.dirty) continue;
      const follows = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
      place.textContent = speech.text;
      if (follows) place.scrollTop = place.scrollHeight;
      const count = place.parentElement.querySelector("[data-words]");
      if (count) count.textContent = String(speech.next);
    }
    for (const speech of said.values()) speech.dirty = false;
  }

  function startFeed(main) {
    const feed = new EventSource(main.dataset.feed);
    let painting = false;
    const paint = () => {
      if (painting) return;
      painting = true;
      requestAnimationFrame(() => { painting = false; speak(); });
    };
    feed.addEventListener("changed", (event) => {
      const seen = Number(document.querySelector("[data-seq]")?.dataset.seq ?? 0);
      const { seq } = JSON.parse(event.data);
      later(main, seq > seen ? 120 : 300);
    });
    feed.addEventListener("delta", (event) => { hear(JSON.parse(event.data)); paint(); });
    feed.addEventListener("end", () => { feed.close(); steady = ""; later(main, 0); });
    feed.addEventListener("open", () => { steady = "live"; connection(steady); });
    feed.addEventListener("error", () => {
      // no content, or no way back in: look once more how it stands
      if (feed.readyState === EventSource.CLOSED) { steady = ""; later(main, 0); }
      else connection("connecting…");
    });
  }

  // ---- a link on another site leads here without our cookie, even when somebody is signed in: look again from here

  async function passThrough(form) {
    try {
      const answer = await fetch("/dashboard?part=live", { credentials: "same-origin", redirect: "manual" });
      if (answer.ok) location.replace(form.dataset.next);
    } catch { /* the form is still there */ }
  }

  // ---- start

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    const main = document.getElementById("main");
    if (main?.dataset.now) ahead = Number(main.dataset.now) - Date.now();
    setInterval(tick, 1000);
    for (const select of document.querySelectorAll("select[data-submit]")) {
      select.addEventListener("change", () => select.form.requestSubmit());
    }
    const signIn = document.querySelector("form[data-next]");
    if (signIn) passThrough(signIn);
    if (main?.dataset.feed) startFeed(main);
    else if (main?.dataset.pollMs) startPolling(main);
  });
})();
