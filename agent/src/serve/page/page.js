// Brings changes as they happen, and tells of single CPUs. All that it shows comes from the page itself.
"use strict";
(() => {
  const live = document.getElementById("live");
  const parts = ["node", "concerns", "machine", "subsystems", "drift", "changes"];
  const sources = new Map(parts.map((id) => [id, document.getElementById(id).innerHTML]));

  // Said only when it changes: a screen reader speaks it.
  function say(state, text) {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    live.textContent = text;
  }

  // Times as the page has them, in words of today.
  function relate(root) {
    for (const time of root.querySelectorAll("time")) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      if (!time.title) time.title = time.textContent;
      const seconds = Math.max(0, Math.round((Date.now() - then) / 1000));
      if (then > Date.now()) time.textContent = time.title;
      else if (seconds < 60) time.textContent = `${seconds} s ago`;
      else if (seconds < 3600) time.textContent = `${Math.floor(seconds / 60)} min ago`;
      else if (seconds < 172800) time.textContent = `${Math.floor(seconds / 3600)} h ago`;
      else time.textContent = `${Math.floor(seconds / 86400)} d ago`;
    }
  }

  // ---- the map: who holds what, and which CPU is which -----------------------------------------------------------
  let picked = null;
  let here = null;

  const cells = () => [...document.querySelectorAll("#map .cpu")];
  const words = (cell) => cell.querySelector("title").textContent;
  const number = (cell) => Number(cell.querySelector(".n").textContent);

  function pick(holder) {
    picked = holder;
    document.querySelector("#map .map")?.classList.toggle("pick", holder !== null);
    for (const cell of cells()) cell.classList.toggle("on", (cell.dataset.h || "").split(" ").includes(holder));
    for (const button of document.querySelectorAll("button.key")) {
      button.setAttribute("aria-pressed", String(button.dataset.h === holder));
    }
  }

  function point(cell) {
    for (const old of document.querySelectorAll("#map .here")) old.classList.remove("here");
    here = cell ? number(cell) : null;
    document.getElementById("readout").textContent = cell ? words(cell) : "";
    cell?.classList.add("here");
  }

  // The nearest CPU in a direction; what lies straight ahead counts as nearer than what lies aside.
  function step(from, dx, dy) {
    const place = (cell) => {
      const box = cell.querySelector("rect");
      return [Number(box.getAttribute("x")), Number(box.getAttribute("y"))];
    };
    const [x, y] = place(from);
    let best = null;
    let least = Infinity;
    for (const cell of cells()) {
      const [cx, cy] = place(cell);
      const ahead = (cx - x) * dx + (cy - y) * dy;
      const aside = Math.abs((cx - x) * dy) + Math.abs((cy - y) * dx);
      if (ahead > 0 && ahead + 3 * aside < least) {
        least = ahead + 3 * aside;
        best = cell;
      }
    }
    return best;
  }

  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "map" || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = cells();
    const now = all.find((cell) => number(cell) === here);
    let next = null;
    if (event.key === "Escape") {
      point(null);
      pick(null);
    } else if (event.key === "Home" || (event.key in ways && !now)) next = all[0];
    else if (event.key === "End") next = all[all.length - 1];
    else if (event.key in ways) next = step(now, ...ways[event.key]) || now;
    else return;
    event.preventDefault();
    if (next) {
      point(next);
      next.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.key");
    if (button) pick(picked === button.dataset.h ? null : button.dataset.h);
    const cell = event.target.closest("#map .cpu");
    if (cell) point(cell);
  });

  // What only makes sense with a script is made by it.
  function equip() {
    const map = document.getElementById("map");
    map?.setAttribute("aria-label", "Map of the CPUs; arrow keys go from CPU to CPU");
    for (const row of document.querySelectorAll("tr[data-h]")) {
      const cell = row.querySelector(".mark");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "key";
      button.dataset.h = row.dataset.h;
      button.title = "Show on the map";
      button.setAttribute("aria-pressed", "false");
      button.append(...cell.childNodes);
      cell.append(button);
    }
    // A holder that is gone cannot be shown.
    pick(document.querySelector(`button.key[data-h="${picked}"]`) ? picked : null);
    point(here === null ? null : cells().find((cell) => number(cell) === here) || null);
    relate(document);
  }

  // ---- live ------------------------------------------------------------------------------------------------------
  function replace(id, fresh) {
    const old = document.getElementById(id);
    if (!fresh || sources.get(id) === fresh.innerHTML) return false;
    sources.set(id, fresh.innerHTML);
    const open = [...old.querySelectorAll("details[open]")].map((details) => details.id);
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const back = active?.id ? `#${active.id}` : active?.matches("button.key") ? `button.key[data-h="${active.dataset.h}"]` : null;
    const scrolled = document.getElementById("map")?.scrollLeft || 0;
    old.replaceChildren(...fresh.childNodes);
    for (const details of open) document.getElementById(details)?.setAttribute("open", "");
    return () => {
      if (document.getElementById("map")) document.getElementById("map").scrollLeft = scrolled;
      if (back) document.querySelector(back)?.focus({ preventScroll: true });
    };
  }

  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      const after = parts.map((id) => replace(id, fresh.getElementById(id))).filter(Boolean);
      if (after.length > 0) equip();
      for (const restore of after) restore();
      say("live", "Live: changes appear by themselves");
    } catch {
      say("lost", "The agent does not answer; trying again");
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  }

  equip();
  setInterval(() => relate(document), 10000);
  const events = new EventSource("/events");
  events.addEventListener("change", refresh);
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) say("still", "Not live; reload the page to see changes");
    else say("lost", "The agent does not answer; trying again");
  });
})();
