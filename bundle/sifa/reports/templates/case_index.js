"use strict";
// Filters by status and text, sorts, and enlarges previews. Without it the page shows all scans.
const list = document.querySelector("#cases");
const cases = [...list.children];
const buttons = [...document.querySelectorAll(".status")];
const search = document.querySelector("input[type=search]");
const order = document.querySelector("select");
const dialog = document.querySelector("dialog");
const texts = new Map(cases.map((item) => [item, item.firstElementChild.textContent.toLowerCase()]));
const name = (item) => item.querySelector(".name").textContent;

function filter() {
  const statuses = new Set(buttons.filter((one) => one.ariaPressed === "true").map((one) => one.dataset.status));
  const words = search.value.toLowerCase().split(/\s+/);
  for (const item of cases) {
    const found = words.every((word) => texts.get(item).includes(word));
    item.hidden = !(found && statuses.has(item.dataset.status));
  }
  document.querySelector("output").value = cases.filter((item) => !item.hidden).length;
}

function volume(item, structure) {
  const row = [...item.querySelectorAll("[data-structure]")].find((one) => one.dataset.structure === structure);
  return row && row.dataset.volume !== "" ? Number(row.dataset.volume) : -1;
}

function dice(item, structure) {
  const rows = [...item.querySelectorAll("[data-dice]")].filter((one) => !structure || one.dataset.structure === structure);
  const known = rows.filter((one) => one.dataset.dice !== "").map((one) => Number(one.dataset.dice));
  return known.length ? Math.min(...known) : 2; // scans without a prediction come last
}

function sort() {
  const [kind, ...rest] = order.value.split(" ");
  const structure = rest.join(" ");
  const key = { volume: (item) => volume(item, structure), dice: (item) => dice(item, structure) }[kind];
  const keys = new Map(cases.map((item) => [item, key ? key(item) : Number(item.dataset[kind])]));
  const compare = {
    name: (one, other) => name(one).localeCompare(name(other), undefined, { numeric: true }),
    order: (one, other) => keys.get(one) - keys.get(other),
    seconds: (one, other) => keys.get(other) - keys.get(one),
    volume: (one, other) => keys.get(other) - keys.get(one),
    dice: (one, other) => keys.get(one) - keys.get(other),
  }[kind];
  list.append(...cases.sort(compare));
}

function enlarge(item) {
  const preview = item.querySelector(".preview");
  dialog.querySelector("b").textContent = name(item);
  dialog.querySelector("img").src = preview.href;
  dialog.enlarged = item;
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const shown = [...list.children].filter((item) => !item.hidden && item.querySelector(".preview"));
  const next = shown[shown.indexOf(dialog.enlarged) + by];
  if (next) enlarge(next);
}

document.querySelector("[data-view]").hidden = false;
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
    filter();
  });
}
search.addEventListener("input", filter);
order.addEventListener("change", sort);
list.addEventListener("click", (event) => {
  const preview = event.target.closest(".preview");
  if (!preview || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  enlarge(preview.closest(".case"));
});
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
