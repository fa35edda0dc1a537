"use strict";
// Says what the numbers are where the pointer is. Without it the page lacks nothing but that.
const plots = document.getElementById("plots");
const elapsed = plots.dataset.elapsed.split(",").map(Number);
const events = Array.from(document.querySelectorAll("#events li"), (item) => ({
  at: Number(item.dataset.at),
  text: item.dataset.text,
}));
const end = elapsed[elapsed.length - 1];

for (const figure of plots.querySelectorAll("figure")) {
  const field = figure.querySelector("svg");
  const cursor = field.querySelector(".cursor");
  const said = figure.querySelector("output");
  const lines = Array.from(field.querySelectorAll("path"), (path) => ({
    name: path.dataset.name,
    values: path.dataset.values.split(","),
  }));
  const look = (event) => {
    const box = field.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * end;
    const row = elapsed.reduce((best, t, i) => (Math.abs(elapsed[best] - at) > Math.abs(t - at) ? i : best), 0);
    const parts = lines.map((line) => `${line.name} ${line.values[row] || "unknown"}`);
    const last = events.filter((mark) => elapsed[row] >= mark.at).pop();
    said.textContent = `${elapsed[row]} s: ${parts.join(", ")} ${figure.dataset.unit}${last ? ` (${last.text})` : ""}`;
    const x = String((elapsed[row] / end) * 1000);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.classList.add("shown");
  };
  field.addEventListener("pointermove", look);
  field.addEventListener("pointerdown", look);
  field.addEventListener("pointerleave", () => {
    said.textContent = "";
    cursor.classList.remove("shown");
  });
}
