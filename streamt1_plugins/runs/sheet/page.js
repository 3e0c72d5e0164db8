"use strict";
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
});

const sheet = document.querySelector(".sheet"), runs = [...sheet.children];
const words = document.getElementById("words"), sort = document.getElementById("sort"), shown = document.getElementById("shown");

function arrange() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const run of runs) run.hidden = !wanted.every(word => run.dataset.text.includes(word));
  const value = run => sort.value === "" ? -runs.indexOf(run) : Number(JSON.parse(run.dataset.values)[sort.value] ?? -Infinity);
  sheet.append(...[...runs].sort((one, other) => value(other) - value(one)));
  shown.textContent = `${runs.filter(run => !run.hidden).length} of ${runs.length}`;
}
words.addEventListener("input", arrange);
sort.addEventListener("change", arrange);

/* A video plays while it is pointed at, and shows its first and last frame again afterwards. */
for (const video of document.querySelectorAll("video")) {
  const play = () => video.play().catch(() => {}), rest = () => { video.pause(); if (video.getAttribute("poster")) video.load(); };
  video.addEventListener("pointerenter", event => { if (event.pointerType === "mouse") play(); });
  video.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") rest(); });
  video.addEventListener("click", () => { if (video.paused) play(); else video.pause(); });
  video.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); if (video.paused) play(); else rest(); } });
}
