"use strict";
/* Drawing: film strips that play, the tree, the curve of scores, the strip of memory. All text is text, never markup. */
const draw = (() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let moving = !still;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("--")) element.style.setProperty(name, value);
      else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }
  function svg(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  /* Replace what an element holds where it changed, so that focus and pictures stay. */
  function keep(parent, children) {
    children.forEach((child, place) => { if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] || null); });
    while (parent.children.length > children.length) parent.lastElementChild.remove();
  }
  const number = (value) => typeof value === "number" && Number.isFinite(value) ? value.toFixed(3) : "–";
  function duration(seconds) {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  /* Film strips: a picture with all frames in a row, of which one is seen. All players share one clock. */
  const pictures = new Map();
  function picture(address, loaded) {
    if (!pictures.has(address)) {
      const image = new Image();
      pictures.set(address, image);
      image.src = address;
    }
    const image = pictures.get(address);
    if (image.complete && image.naturalWidth) loaded(image);
    else image.addEventListener("load", () => loaded(image), { once: true });
  }
  function paint(player, strip) {
    if (!strip || player.dataset.painted === strip.address) return;
    player.dataset.painted = strip.address;
    picture(strip.address, (image) => {
      if (player.dataset.painted !== strip.address) return;
      document.body.style.setProperty("--aspect", (image.naturalWidth / strip.frames / image.naturalHeight).toFixed(4));
      const screen = player.querySelector("i");
      screen.style.setProperty("--strip", `url("${strip.address}")`);
      screen.style.setProperty("--n", strip.frames);
    });
  }
  function at(player, frame, count) {
    player.querySelector("i").style.setProperty("--at", count > 1 ? frame / (count - 1) : 0);
  }
  const players = new Map();
  /* What a player shows: a list of strips, one after the other. */
  function play(player, strips) {
    const shown = strips.filter(Boolean);
    players.set(player, shown);
    if (shown.length) paint(player, shown[0]);
  }
  const CHUNK = 0.75;
  function step(now) {
    for (const [player, strips] of players) {
      if (!player.isConnected) { players.delete(player); continue; }
      if (!strips.length) continue;
      const lengths = strips.map((strip) => strip.seconds || CHUNK);
      let time = (now / 1000) % lengths.reduce((sum, each) => sum + each, 0), index = 0;
      while (index < strips.length - 1 && time >= lengths[index]) time -= lengths[index++];
      const strip = strips[index], clock = player.querySelector(".clock");
      paint(player, strip);
      at(player, Math.min(strip.frames - 1, Math.floor((time / lengths[index]) * strip.frames)), strip.frames);
      if (clock) clock.textContent = strips.length > 1 ? `chunk ${strip.chunk}` : "";
    }
  }
  let last = 0;
  (function tick(now) {
    if (moving && now - last > 40) { last = now; step(now); }
    requestAnimationFrame(tick);
  })(0);
  function toggle() { moving = !moving; return moving; }

  /* Rows of the tree: the path first, then survivors, then the others by score; left branches last. */
  function rows(nodes, path) {
    const chunks = new Map();
    for (const node of nodes) {
      if (!chunks.has(node.chunk)) chunks.set(node.chunk, []);
      chunks.get(node.chunk).push(node);
    }
    const order = (node) => path.has(node.id) ? 0 : node.fate === "kept" ? 1 : node.fate === null ? 2 : node.fate === "pruned" ? 3 : 4;
    const value = (node) => node.score === null ? -Infinity : node.score;
    for (const each of chunks.values()) each.sort((a, b) => order(a) - order(b) || value(b) - value(a) || (a.id < b.id ? -1 : 1));
    return chunks;
  }
  function edges(chunks, places, path, size) {
    const found = [...chunks.values()].flat().filter((node) => places.has(node.parent)).map((node) => {
      const [fromColumn, fromRow] = places.get(node.parent), [column, row] = places.get(node.id);
      const x0 = (fromColumn + size.share) * 100, x1 = column * 100, y0 = (fromRow + .4) * 100, y1 = (row + .4) * 100;
      const kind = path.has(node.id) ? "path" : node.fate === "kept" ? "kept" : "pruned";
      return svg("path", { class: kind, d: `M${x0} ${y0}C${x0 + 18} ${y0} ${x1 - 18} ${y1} ${x1} ${y1}` });
    });
    const drawing = svg("svg", { viewBox: `0 0 ${size.columns * 100} ${size.rows * 100}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    drawing.append(...found.sort((a, b) => (a.getAttribute("class") === "path") - (b.getAttribute("class") === "path")));
    return drawing;
  }

  /* The curve: the band of all candidates' scores and the line of the path. */
  function curve(chunks, path, columns) {
    const all = [...chunks].map(([chunk, nodes]) => ({ chunk, scores: nodes.filter((node) => typeof node.score === "number").map((node) => node.score), chosen: nodes.find((node) => path.has(node.id)) }))
      .filter((each) => each.scores.length).sort((a, b) => a.chunk - b.chunk);
    if (!all.length) return null;
    const low = Math.min(...all.flatMap((each) => each.scores)), high = Math.max(...all.flatMap((each) => each.scores));
    const x = (chunk) => chunk * 100 + 40, y = (score) => high > low ? 92 - (84 * (score - low)) / (high - low) : 50;
    const upper = all.map((each) => `${x(each.chunk)} ${y(Math.max(...each.scores))}`), lower = all.map((each) => `${x(each.chunk)} ${y(Math.min(...each.scores))}`).reverse();
    const chosen = all.filter((each) => each.chosen && typeof each.chosen.score === "number").map((each) => `${x(each.chunk)} ${y(each.chosen.score)}`);
    const label = `Score by chunk, of all candidates from ${number(low)} to ${number(high)}`;
    const drawing = svg("svg", { viewBox: `0 0 ${columns * 100} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label });
    drawing.append(svg("path", { class: "band", d: `M${[...upper, ...lower].join("L")}Z` }));
    if (chosen.length) drawing.append(svg("path", { class: "best", d: `M${chosen.join("L")}` }), svg("path", { class: "dots", d: chosen.map((point) => `M${point}h0`).join("") }));
    return drawing;
  }
  /* The route of every chunk of the path; `seen`: sinks, appended chunks, and the window of the open chunk. */
  function routes(path, memory) {
    return path.map((node, place) => {
      const isSink = place < (memory.sinks || 0), inWindow = place > path.length - (memory.window || 0);
      const route = isSink ? "sink" : node.route || "discard";
      const seen = isSink || inWindow || ["append", "ema", "ema_pair", "replace"].includes(route);
      const kind = ["append", "replace"].includes(route) ? "append" : route.startsWith("ema") ? "ema" : route;
      return make("span", { class: `slot ${kind}${seen ? " seen" : ""}`, "--c": node.chunk, title: `Chunk ${node.chunk}: ${route}${inWindow ? ", in the window" : ""}` }, route);
    });
  }
  return { make, keep, number, duration, play, toggle, rows, edges, curve, routes };
})();
