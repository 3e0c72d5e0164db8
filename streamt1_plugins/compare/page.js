"use strict";
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
});

/* The list of all videos reads their files when it is opened. */
for (const list of document.querySelectorAll(".every")) {
  const fill = () => { if (list.open) for (const video of list.querySelectorAll("video[data-src]")) { video.src = video.dataset.src; video.removeAttribute("data-src"); } };
  list.addEventListener("toggle", fill);
  fill();
}

/* The videos of a line play together, from the beginning; their names are links. */
for (const pair of document.querySelectorAll(".both")) {
  const videos = [...pair.querySelectorAll("video")];
  const play = () => videos.forEach(video => { video.currentTime = 0; video.play().catch(() => {}); });
  const rest = () => videos.forEach(video => video.pause());
  const turn = () => { if (videos.every(video => video.paused)) play(); else rest(); };
  pair.addEventListener("pointerenter", event => { if (event.pointerType === "mouse") play(); });
  pair.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") rest(); });
  pair.addEventListener("click", event => { if (!event.target.closest("a")) turn(); });
  pair.addEventListener("keydown", event => { if (!event.target.closest("a") && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); turn(); } });
}
