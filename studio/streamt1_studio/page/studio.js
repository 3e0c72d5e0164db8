"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const { make, keep, number, duration } = draw;
  let offered = null, open = null, view = null, selected = null, stream = null, drawnNodes = "";
  const nodes = new Map(), cards = new Map(), choices = new Map();

  /* Talking to the studio. */
  async function send(address, wish) {
    const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish) });
    const data = await answer.json();
    if (!answer.ok) throw new Error(data.error || answer.statusText);
    return data;
  }
  async function wish(address, what) {
    try {
      problem("");
      return await send(address, what);
    } catch (error) {
      problem(error.message);
      return null;
    }
  }
  function problem(text) {
    if (byId("problem").textContent !== text) byId("problem").textContent = text;
    if (text && byId("take").hidden) byId("cost").textContent = text;
  }
  function listen() {
    if (stream) stream.close();
    stream = new EventSource(`events${open && open.kind === "take" ? `?take=${encodeURIComponent(open.id)}` : ""}`);
    stream.addEventListener("open", () => { byId("link").textContent = ""; if (open && open.kind === "take") nodes.clear(); });
    stream.addEventListener("error", () => { byId("link").textContent = "The studio does not answer. What was made is kept; the page returns when it does."; });
    stream.addEventListener("takes", (event) => lists(JSON.parse(event.data)));
    stream.addEventListener("take", (event) => { if (open && open.kind === "take") show(JSON.parse(event.data)); });
  }

  /* What is open: a take, a recorded run, or the form for a new one. */
  function turn(kind, id) {
    open = kind ? { kind, id } : null;
    view = selected = null;
    nodes.clear(); cards.clear(); choices.clear();
    drawnNodes = "";
    history.replaceState(null, "", kind ? `#${kind}=${id}` : "#");
    byId("begin").hidden = Boolean(kind);
    byId("take").hidden = true;
    byId("change").hidden = true;
    side();
    problem("");
    listen();
    if (kind === "run") recorded(id);
    if (!kind) byId("prompt").focus();
  }
  async function recorded(id) {
    const answer = await fetch(`runs/${encodeURIComponent(id)}`);
    if (!answer.ok) { turn(null); return; }
    const found = await answer.json();
    if (open && open.kind === "run" && open.id === id) show({ ...found, run: id, playing: false, doing: "", problem: "", jobs: [] });
  }

  /* The lists beside it. */
  const states = { queued: "waits for the model", working: "at work", waiting: "your turn", parked: "saved", finished: "finished", stopped: "stopped", open: "not finished" };
  function entry(kind, each, words) {
    const button = make("button", { type: "button", "data-kind": kind, "data-id": each.id, "aria-current": open && open.kind === kind && open.id === each.id ? "true" : null }, each.prompt || each.name || "…", make("small", {}, words));
    return make("li", {}, button);
  }
  let listed = "";
  function lists({ queue, runs, open: isOpen }) {
    if (open && open.kind === "take" && !isOpen) { turn(null); return; }
    const text = JSON.stringify([queue, runs, open]);
    if (text === listed) return;
    listed = text;
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.id : null;
    let ahead = 0;
    const takes = queue.map((each) => {
      const place = each.state === "queued" ? `, ${ahead} ahead` : "";
      ahead += each.state === "queued" || each.state === "working";
      return entry("take", each, `${states[each.state]}${place}${each.chunks ? ` · ${each.done} of ${each.chunks} chunks` : ""} · ${each.recipe || ""}`);
    });
    byId("queue").replaceChildren(...(takes.length ? takes : [make("li", { class: "empty" }, "No take is open.")]));
    byId("runs").replaceChildren(...(runs.length ? runs.map((each) => entry("run", each, `${states[each.status]} · ${each.recipe} · seed ${each.seed} · ${each.name}`)) : [make("li", { class: "empty" }, "The folder has no run yet.")]));
    if (focused) document.querySelectorAll(`.list [data-id="${focused}"]`).forEach((button) => button.focus());
  }

  /* A take. */
  const strip = (id) => {
    const node = nodes.get(id);
    return node && node.frames ? { address: `runs/${view.run}/strips/${id}${node.waits ? "?waits" : ""}`, frames: node.frames, chunk: node.chunk, seconds: view.fps ? (view.length || node.frames) / view.fps : 0 } : null;
  };
  function show(news) {
    for (const node of news.nodes) nodes.set(node.id, node);
    view = { ...news, began: Date.now() - 1000 * (news.since || 0) };
    byId("take").hidden = false;
    byId("begin").hidden = true;
    byId("title").textContent = view.prompt || "";
    keep(byId("scenes"), (view.scenes || []).filter((scene) => scene.chunk > 0).map((scene) => make("li", {}, `From chunk ${scene.chunk}: ${scene.prompt} `, make("small", {}, scene.memory || ""))));
    document.title = `${view.prompt || "Take"} – Studio`;
    byId("facts").textContent = [view.recipe, `seed ${view.seed}`, ...(view.cost && view.cost.candidates ? [`${view.cost.candidates} candidates`, `${view.cost.forwards} forwards`] : [])].filter(Boolean).join(" · ");
    byId("bar").value = view.chunks ? view.done / view.chunks : 0;
    byId("status").textContent = status();
    if (view.problem) problem(view.problem);
    const offeredNodes = view.candidates || [];
    if (!nodes.has(selected) || (offeredNodes.length && !offeredNodes.includes(selected) && !view.sticky)) selected = offeredNodes.length ? (view.choice || [])[0] || best(offeredNodes) : (view.path || [])[Math.max(0, (view.path || []).length - 1)] || null;
    drawCandidates(offeredNodes);
    drawTree();
    draw.play(byId("video"), (view.path || []).map(strip));
    side();
    actions();
    downloads();
    keep(byId("notes"), (view.notes || []).map((note) => make("li", {}, note)));
  }
  function status() {
    const words = [states[view.state] || view.state];
    if (view.doing) words.push(`${view.doing.toLowerCase()}, ${duration((Date.now() - view.began) / 1000)}`);
    if (view.chunks) words.push(`${view.done} of ${view.chunks} chunks`);
    if (view.eta) words.push(`about ${duration(view.eta)} left`);
    if (view.jobs && view.jobs.length) words.push(`then: ${view.jobs.join(", ").toLowerCase()}`);
    return words.join(" · ");
  }
  const best = (ids) => ids.reduce((found, id) => ((nodes.get(id) || {}).score ?? -Infinity) > ((nodes.get(found) || {}).score ?? -Infinity) ? id : found, ids[0]);
  function label(node) {
    return `Chunk ${node.chunk}, candidate ${Number(node.id.split(".")[1])}, score ${number(node.score)}${node.problem ? ", invalid" : ""}`;
  }
  function picture(node, store, kind) {
    if (!store.has(node.id)) {
      const button = make("button", { type: "button", "data-node": node.id, tabindex: "-1" },
        make("div", { class: "player" }, make("i")), make("span", { class: "line" }, make("b"), make("em")));
      if (kind === "candidate") button.setAttribute("role", "option");
      store.set(node.id, button);
    }
    const button = store.get(node.id), mark = button.querySelector("em");
    button.querySelector("b").textContent = number(node.score);
    mark.textContent = node.problem ? "invalid" : node.by === "person" ? "hand" : node.route && node.route !== "discard" ? node.route : "";
    mark.className = node.by === "person" ? "person" : node.route || "";
    button.setAttribute("aria-label", label(node));
    button.title = `${node.id}: ${label(node)}`;
    draw.play(button.querySelector(".player"), [strip(node.id)]);
    return button;
  }
  function drawCandidates(ids) {
    const shown = ids.map((id) => nodes.get(id)).filter(Boolean), chosen = view.choice || [];
    byId("choosing").replaceChildren(shown.length ? `Candidates of chunk ${shown[0].chunk} ` : "Candidates ", make("small", {}, shown.length ? "outlined: what the recipe would keep" : ""));
    const drawn = shown.map((node, place) => {
      const button = picture(node, choices, "candidate");
      button.className = `candidate${chosen.includes(node.id) ? " best" : ""}${node.problem ? " invalid" : ""}`;
      button.setAttribute("aria-selected", node.id === selected);
      button.tabIndex = node.id === selected ? 0 : -1;
      button.setAttribute("aria-keyshortcuts", place < 9 ? String(place + 1) : "");
      return button;
    });
    const complete = view.chunks && view.done === view.chunks;
    const nothing = view.state === "finished" ? "The video is finished." : complete && isLive() ? "All chunks are kept. Look at the video, then finish it or go back." : view.state === "parked" || open.kind === "run" ? "Go on with it to see candidates." : view.doing ? `${view.doing} …` : "The model is busy with another take.";
    keep(byId("candidates"), drawn.length ? drawn : [make("p", { class: "empty" }, nothing)]);
  }
  function drawTree() {
    const path = new Set(view.path || []), chunks = draw.rows([...nodes.values()], path);
    const columns = Math.max(view.chunks || 0, ...chunks.keys(), 1), rows = Math.max(1, ...[...chunks.values()].map((each) => each.length));
    const body = document.body, places = new Map(), drawn = [];
    body.style.setProperty("--columns", columns);
    body.style.setProperty("--rows", rows);
    for (const [column, each] of chunks) each.forEach((node, row) => places.set(node.id, [column, row]));
    for (const each of chunks.values()) for (const node of each) {
      const button = picture(node, cards, "card"), [column, row] = places.get(node.id);
      button.className = `card ${node.fate || "open"}${path.has(node.id) ? " path" : ""}${node.by === "person" ? " person" : ""}${["kept", "pruned", "invalid", null].includes(node.fate) ? "" : " left"}`;
      button.style.setProperty("--c", column);
      button.style.setProperty("--r", row);
      button.toggleAttribute("aria-current", false);
      if (node.id === selected) button.setAttribute("aria-current", "true");
      button.tabIndex = node.id === selected ? 0 : -1;
      drawn.push(button);
    }
    const share = 84 / 104;
    keep(byId("tree"), [draw.edges(chunks, places, path, { columns, rows, share }), ...drawn]);
    const signature = `${columns}`;
    if (byId("axis").dataset.drawn !== signature) {
      byId("axis").dataset.drawn = signature;
      byId("axis").replaceChildren(...Array.from({ length: columns }, (_, column) => make("span", { "--c": column }, String(column))));
    }
    const curve = draw.curve(chunks, path, columns);
    byId("curves").replaceChildren(...(curve ? [curve] : []));
    const memory = view.memory || {}, along = (view.path || []).map((id) => nodes.get(id)).filter(Boolean);
    const routed = along.some((node) => node.route);
    document.querySelectorAll(".routed").forEach((each) => { each.hidden = !routed; });
    byId("routes").replaceChildren(...(routed ? draw.routes(along, memory) : []));
  }

  /* The panel of the selected candidate. */
  function side() {
    const node = view && nodes.get(selected);
    if (!node) { byId("side").replaceChildren(); return; }
    const pair = (name, value) => [make("dt", {}, name), make("dd", {}, value)];
    const facts = make("dl", {}, ...pair("Score", number(node.score)), ...pair("Short, long", `${number(node.short)}, ${number(node.long)}`),
      ...pair("Fate", { kept: "kept", pruned: "pruned", invalid: "invalid" }[node.fate] || node.fate || "open"), ...(node.by ? pair("Chosen by", node.by) : []), ...(node.route ? pair("Route", node.route) : []),
      ...pair("Continues", node.parent || "–"), ...pair("Seed", node.seed), ...pair("Node", node.id));
    const rows = Object.entries(node.rewards || {}).flatMap(([horizon, named]) => Object.entries(named || {}).map(([name, reading]) =>
      make("tr", {}, make("th", { scope: "row" }, `${name} `, make("span", {}, horizon)), make("td", {}, number(reading && reading.raw)))));
    byId("side").replaceChildren(make("h2", {}, label(node).split(", score")[0]), ...(node.problem ? [make("p", { class: "bad" }, node.problem)] : []), facts, make("table", {}, ...rows));
  }
  function select(id, focus) {
    if (!nodes.has(id)) return;
    selected = id;
    drawCandidates(view.candidates || []);
    drawTree();
    side();
    actions();
    const button = (view.candidates || []).includes(id) && focus !== "tree" ? choices.get(id) : cards.get(id);
    if (focus && button) { button.focus({ preventScroll: true }); button.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  }

  setInterval(() => { if (view && view.doing) byId("status").textContent = status(); }, 1000);

  /* What a person may do now. */
  const isLive = () => Boolean(open && open.kind === "take" && view);
  function allowed() {
    const live = isLive() && view.state !== "finished", ids = view && live ? view.candidates || [] : [], node = view && nodes.get(selected);
    const mine = ids.includes(selected), complete = live && view.chunks > 0 && view.done === view.chunks;
    return {
      keep: mine && !node.problem, finish: complete, reroll: ids.length > 0 || (live && !complete && view.state === "waiting"), refine: mine,
      back: live && view.done > 0, branch: Boolean(node) && node.fate !== null, prompt: live && !complete && view.done > 0, play: live && !view.playing, stop: live && view.playing,
      open: Boolean(view) && (open.kind === "run" || ["parked", "finished"].includes(view.state)), park: live && view.state !== "parked",
    };
  }
  function actions() {
    const may = allowed(), node = view && nodes.get(selected);
    document.querySelectorAll("[data-act]").forEach((button) => { button.disabled = !may[button.dataset.act]; });
    const button = (name) => document.querySelector(`[data-act="${name}"]`);
    button("keep").hidden = may.finish;
    button("finish").hidden = !may.finish;
    button("open").hidden = !may.open;
    button("keep").textContent = may.keep ? `Keep ${node.id}` : "Keep";
    button("branch").textContent = may.branch ? `Branch from ${node.id}` : "Branch";
    button("back").textContent = may.back ? `Back to chunk ${backTo()}` : "Back";
    byId("change").hidden = byId("change").hidden || !may.prompt;
  }
  /* The chunk of the selected candidate, where it is behind, else the one that was kept last. */
  function backTo() {
    const node = nodes.get(selected);
    return node && node.chunk < view.done ? node.chunk : Math.max(0, view.done - 1);
  }
  const acts = {
    keep: () => wish(`takes/${open.id}/keep`, { node: selected }),
    reroll: () => wish(`takes/${open.id}/reroll`, {}),
    refine: () => wish(`takes/${open.id}/reroll`, { refine: selected }),
    back: () => wish(`takes/${open.id}/back`, { chunk: backTo() }),
    finish: () => wish(`takes/${open.id}/finish`, {}),
    play: () => wish(`takes/${open.id}/play`, { on: true }),
    stop: () => wish(`takes/${open.id}/play`, { on: false }),
    park: () => wish(`takes/${open.id}/park`, {}),
    prompt: () => {
      byId("change").hidden = !byId("change").hidden;
      document.querySelector('[data-act="prompt"]').setAttribute("aria-expanded", String(!byId("change").hidden));
      if (!byId("change").hidden) { byId("newprompt").value = byId("newprompt").value || (view.scenes || []).reduce((text, scene) => scene.prompt, view.prompt); byId("newprompt").focus(); }
    },
    branch: () => follow(wish(`runs/${view.run}/branch`, { node: selected })),
    open: () => follow(wish(`runs/${view.run}/open`, {})),
  };
  async function follow(answer) {
    const found = await answer;
    if (found) turn("take", found.take);
  }
  function act(name) { if (allowed()[name]) acts[name](); }

  function downloads() {
    const names = { video: "Video", recipe: "Recipe", tree: "Tree", page: "Report page" };
    keep(byId("downloads"), (view.files || []).map((what) => make("a", { href: `runs/${view.run}/files/${what}`, download: "" }, `Download ${names[what].toLowerCase()}`)));
  }

  /* A new take. */
  function offer(found) {
    offered = found;
    byId("model").textContent = found.model;
    byId("recipe").replaceChildren(...Object.keys(found.recipes).map((name) => make("option", { value: name }, name)));
    byId("recipe").value = found.recipe;
    byId("words").replaceChildren(...Object.entries(found.vocabulary).map(([kind, words]) => make("span", {}, kind, ...words.map((word) => make("button", { type: "button", "data-word": word }, word)))));
    price();
  }
  let pricing = 0;
  const frames = () => byId("frames").value ? Number(byId("frames").value) : null;
  async function price() {
    const mine = ++pricing, name = byId("recipe").value;
    byId("about").textContent = offered && offered.recipes[name] !== name ? offered.recipes[name] : "";
    let text;
    try {
      text = (await send("cost", { recipe: name, ...(frames() ? { frames: frames() } : {}) })).cost;
    } catch (error) { text = error.message; }
    if (mine === pricing) byId("cost").textContent = text;
  }
  async function begin(play) {
    const prompt = byId("prompt").value.trim();
    if (!prompt) { byId("prompt").focus(); return; }
    const found = await wish("takes", { prompt, recipe: byId("recipe").value, seed: Number(byId("seed").value || 0), play, ...(frames() ? { frames: frames() } : {}) });
    if (found) turn("take", found.take);
  }
  byId("begin").addEventListener("submit", (event) => { event.preventDefault(); begin(false); });
  byId("beginplay").addEventListener("click", () => begin(true));
  byId("recipe").addEventListener("change", price);
  byId("frames").addEventListener("change", price);
  byId("words").addEventListener("click", (event) => {
    const word = event.target.dataset.word, box = byId("prompt");
    if (!word) return;
    const before = box.value.slice(0, box.selectionStart), after = box.value.slice(box.selectionEnd);
    const text = `${before}${before && !/\s$/.test(before) ? " " : ""}${word}`;
    box.value = `${text}${after && !/^\s/.test(after) ? " " : ""}${after}`;
    box.focus();
    box.setSelectionRange(text.length, text.length);
  });
  byId("change").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = byId("newprompt").value.trim();
    if (text && await wish(`takes/${open.id}/prompt`, { text, memory: byId("memory").value })) { byId("change").hidden = true; byId("newprompt").value = ""; }
  });

  /* Mouse and keys. */
  byId("candidates").addEventListener("click", (event) => {
    const button = event.target.closest("[data-node]");
    if (button) select(button.dataset.node, "candidates");
  });
  byId("candidates").addEventListener("dblclick", (event) => { if (event.target.closest("[data-node]")) act("keep"); });
  byId("tree").addEventListener("click", (event) => {
    const button = event.target.closest("[data-node]");
    if (button) select(button.dataset.node, "tree");
  });
  byId("acts").addEventListener("click", (event) => { const name = event.target.dataset.act; if (name) act(name); });
  document.querySelector("aside").addEventListener("click", (event) => {
    const button = event.target.closest("[data-kind]");
    if (button) turn(button.dataset.kind, button.dataset.id);
  });
  byId("new").addEventListener("click", () => turn(null));
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", help);
  function theme() {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  }
  function help() {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  }
  const KEYS = { r: "reroll", f: "refine", b: "back", x: "branch", c: "prompt", p: "play", s: "stop" };
  const WORDS = [["1 … 9", "candidate"], ["← →", "candidate, or parent and child in the tree"], ["↑ ↓", "candidate of a chunk in the tree"], ["Enter", "keep, finish"], ["r", "reroll"], ["f", "refine"], ["b", "back"], ["x", "branch"], ["c", "change the prompt"], ["p", "play the rest"], ["s", "stop"], ["space", "hold the pictures"], ["n", "new take"], ["t", "theme"], ["Esc", "leave a field"], ["?", "keys"]];
  byId("keys").replaceChildren(...WORDS.map(([key, what]) => make("span", {}, make("kbd", {}, key), ` ${what}`)));
  function neighbour(key) {
    const node = nodes.get(selected), path = new Set(view.path || []), chunks = draw.rows([...nodes.values()], path);
    const inTree = document.activeElement && document.activeElement.closest("#tree"), ids = view.candidates || [];
    if (!inTree && ids.includes(selected)) {
      const place = ids.indexOf(selected) + (key === "ArrowRight" || key === "ArrowDown" ? 1 : -1);
      return ids[place];
    }
    if (key === "ArrowLeft") return node.parent;
    const column = key === "ArrowRight" ? chunks.get(node.chunk + 1) || [] : chunks.get(node.chunk);
    if (key === "ArrowRight") return (column.find((each) => each.parent === selected) || {}).id;
    return (column[column.indexOf(node) + (key === "ArrowDown" ? 1 : -1)] || {}).id;
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest && event.target.closest("textarea, input, select");
    if (event.key === "Escape") { if (field) field.blur(); else byId("change").hidden = true; return; }
    if (field) return;
    const onButton = event.target.closest && event.target.closest("button:not([data-node]), a");
    if (onButton && (event.key === "Enter" || event.key === " ")) return;
    if (/^Arrow/.test(event.key) && view && selected) { event.preventDefault(); select(neighbour(event.key), document.activeElement.closest("#tree") ? "tree" : "candidates"); }
    else if (/^[1-9]$/.test(event.key) && view && (view.candidates || [])[event.key - 1]) select(view.candidates[event.key - 1], "candidates");
    else if (event.key === "Enter") { event.preventDefault(); act(allowed().finish ? "finish" : "keep"); }
    else if (KEYS[event.key]) { event.preventDefault(); act(KEYS[event.key]); }
    else if (event.key === " ") { event.preventDefault(); draw.toggle(); }
    else if (event.key === "n") { event.preventDefault(); turn(null); }
    else if (event.key === "t") theme();
    else if (event.key === "?") help();
  });

  fetch("model").then((answer) => answer.json()).then(offer);
  const [, kind, id] = location.hash.match(/^#(take|run)=([0-9a-f]+)$/) || [];
  turn(kind || null, id);
})();
