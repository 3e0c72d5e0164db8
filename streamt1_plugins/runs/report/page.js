"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const strips = JSON.parse(byId("strips").textContent);
  const lengths = JSON.parse(byId("lengths").textContent);
  const tree = byId("tree"), side = byId("side"), scroll = byId("scroll");
  const cards = [...tree.querySelectorAll(".card")];
  const cardOf = new Map(cards.map((card) => [card.dataset.node, card]));
  const chunkOf = (node) => parseInt(node, 10);
  const place = (card) => [card.style.getPropertyValue("--c"), card.style.getPropertyValue("--r")].map(Number);
  const columns = cards.reduce((most, card) => Math.max(most, place(card)[0] + 1), 1);
  /* Pixels of a column. Narrower: the color of the score alone; a chunk number in five; two lines below a picture;
     and the page opens with the whole run. */
  const TINY = 46, DENSE = 22, NARROW = 124, LEAST = 92;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let selected = null, playing = !still, wholePath = true, players = [];

  /* Pictures are decoded only where they are seen. */
  function paint(element, node) {
    const strip = strips[node];
    if (!strip || element.dataset.painted === node) return;
    element.dataset.painted = node;
    element.style.setProperty("--strip", `url(data:image/webp;base64,${strip[1]})`);
    element.style.setProperty("--n", strip[0]);
    /* A card shows a few frames, spread over the strip. */
    const shown = element.querySelectorAll(".film i");
    shown.forEach((screen, i) => at(screen, Math.round((i / Math.max(1, shown.length - 1)) * (strip[0] - 1)), strip[0]));
  }
  function at(screen, frame, count) {
    screen.style.setProperty("--at", count > 1 ? frame / (count - 1) : 0);
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      paint(entry.target, entry.target.dataset.node);
      seen.unobserve(entry.target);
    }
  }, { rootMargin: "300px" });
  function watch() {
    seen.disconnect();
    if (!document.body.classList.contains("tiny")) cards.forEach((card) => card.dataset.painted || seen.observe(card));
  }

  /* Selecting. */
  function select(card, focus) {
    if (!card) return;
    if (selected) { selected.removeAttribute("aria-current"); selected.tabIndex = -1; }
    selected = card;
    card.setAttribute("aria-current", "true");
    card.tabIndex = 0;
    if (focus) card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", inline: "nearest" });
    try { history.replaceState(null, "", `#node=${card.dataset.node}`); } catch { /* a frame without an address */ }
    trace(card.dataset.node);
    show(card.dataset.node);
  }
  function trace(node) {
    tree.querySelectorAll(".traced").forEach((edge) => edge.classList.remove("traced"));
    for (const each of pathTo(node)) {
      const edge = byId(`e${each}`);
      if (edge && !edge.classList.contains("winner")) edge.classList.add("traced");
    }
  }
  function show(node) {
    side.replaceChildren(byId(`t${node}`).content.cloneNode(true));
    side.scrollTop = 0;
    const others = cards.filter((card) => chunkOf(card.dataset.node) === chunkOf(node));
    if (others.length > 1) {
      const title = document.createElement("h2"), grid = document.createElement("div");
      title.textContent = "Candidates of this chunk ";
      if (others.some((card) => card.dataset.parent !== cardOf.get(node).dataset.parent)) {
        title.append(Object.assign(document.createElement("small"), { textContent: "dimmed: other parent" }));
      }
      grid.className = "siblings";
      grid.append(...others.map((card) => sibling(card, node)));
      side.append(title, grid);
    }
    side.querySelector(`[data-play="${wholePath ? "path" : "chunk"}"]`).setAttribute("aria-pressed", "true");
    side.querySelector(`[data-play="${wholePath ? "chunk" : "path"}"]`).setAttribute("aria-pressed", "false");
    label();
    players = [...side.querySelectorAll(".player")];
    step(performance.now());
  }
  function sibling(card, node) {
    const button = document.createElement("button"), player = document.createElement("div");
    const parent = cardOf.get(node).dataset.parent;
    button.type = "button";
    button.className = card.className.replace("card", "") + (card.dataset.parent === parent ? "" : " other");
    if (card.dataset.node === node) button.setAttribute("aria-current", "true");
    player.className = "player";
    player.dataset.strip = card.dataset.node;
    player.append(document.createElement("i"));
    const value = card.querySelector(".line span").textContent, mark = card.querySelector(".line em:not(.ema, .append)");
    button.append(player, value || card.dataset.node);
    if (mark) button.append(" ", mark.cloneNode(true));
    button.setAttribute("aria-label", card.getAttribute("aria-label"));
    button.addEventListener("click", () => select(card, false));
    return button;
  }

  /* Playing: all players share one clock, so that siblings can be compared. */
  function pathTo(node) {
    const path = [];
    for (let card = cardOf.get(node); card; card = cardOf.get(card.dataset.parent)) path.unshift(card.dataset.node);
    return path;
  }
  const secondsOf = (node) => lengths[chunkOf(node)] || 1;
  function step(now) {
    for (const player of players) {
      const own = player.dataset.strip, clock = player.querySelector(".clock");
      const path = wholePath && clock ? pathTo(own) : [own];
      let time = (now / 1000) % path.reduce((sum, node) => sum + secondsOf(node), 0), index = 0;
      while (index < path.length - 1 && time >= secondsOf(path[index])) time -= secondsOf(path[index++]);
      const node = path[index], count = strips[node] ? strips[node][0] : 1, screen = player.querySelector("i");
      paint(screen, node);
      const frame = Math.min(count - 1, Math.floor((time / secondsOf(node)) * count));
      at(screen, frame, count);
      if (clock) clock.textContent = wholePath ? `chunk ${chunkOf(node)}` : "";
    }
  }
  let last = 0;
  (function tick(now) {
    if (playing && now - last > 40) { last = now; step(now); }
    requestAnimationFrame(tick);
  })(0);
  function label() {
    const button = side.querySelector('[data-play="toggle"]');
    if (button) button.textContent = playing ? "Pause" : "Play";
  }
  function toggle() { playing = !playing; label(); }

  /* Keys: the column is a chunk, the row a candidate. */
  function neighbour(key) {
    const [column, row] = place(selected), node = selected.dataset.node;
    if (key === "ArrowLeft") return cardOf.get(selected.dataset.parent);
    if (key === "ArrowRight") return cards.find((card) => card.dataset.parent === node);
    if (key === "Home" || key === "End") return ends(row)[key];
    const target = row + (key === "ArrowDown" ? 1 : -1);
    return cards.find((card) => place(card)[0] === column && place(card)[1] === target);
  }
  /* The first and the last chunk, in this row or the last one that is there. */
  function ends(row) {
    const last = place(cards[cards.length - 1])[0];
    const at = (wanted) => cards.filter((card) => place(card)[0] === wanted && place(card)[1] <= row).pop();
    return { Home: at(place(cards[0])[0]), End: at(last) };
  }
  const actions = { " ": toggle, z: () => zoom(), t: () => theme() };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const elsewhere = event.target.closest && event.target.closest("button:not(.card), a, pre, h1, aside");
    if (/^(Arrow|Home$|End$)/.test(event.key) && selected && !elsewhere) {
      event.preventDefault();
      select(neighbour(event.key), true);
    } else if (actions[event.key] && !(elsewhere && event.key === " ")) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  tree.addEventListener("click", (event) => select(event.target.closest(".card"), true));
  side.addEventListener("click", (event) => {
    const mode = event.target.dataset.play;
    if (mode === "toggle") toggle();
    else if (mode) { wholePath = mode === "path"; show(selected.dataset.node); }
  });

  /* The whole run at once, or large enough to look at. */
  function zoom(on = !document.body.classList.contains("whole")) {
    document.body.classList.toggle("whole", on);
    byId("zoom").setAttribute("aria-pressed", on);
    fit();
    if (selected) selected.scrollIntoView({ block: "nearest", inline: "center" });
  }
  function fit() {
    const room = scroll.clientWidth - 72, body = document.body;
    body.style.setProperty("--room", `${room}px`);
    const whole = body.classList.contains("whole"), pitch = room / columns;
    body.classList.toggle("tiny", whole && pitch < TINY);
    body.classList.toggle("dense", whole && pitch < DENSE);
    body.classList.toggle("narrow", !whole && pitch < NARROW);
    watch();
    return room;
  }
  function theme() {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  }
  byId("zoom").addEventListener("click", () => zoom());
  byId("theme").addEventListener("click", theme);
  addEventListener("resize", fit);

  function fromHash() {
    const card = cardOf.get((location.hash.match(/node=([\d.]+)/) || [])[1]);
    if (card) card.click();
    return card;
  }
  addEventListener("hashchange", fromHash);
  const winners = cards.filter((card) => card.classList.contains("winner"));
  if (fit() / columns < LEAST) zoom(true);
  if (!fromHash() && cards.length) select(winners[winners.length - 1] || cards[0], false);
  scrollTo(0, 0);
})();
