// Comfort only: everything can be read and reached without it.
(() => {
  const stops = (all) => [...document.querySelectorAll(all)];
  const rows = () => stops(".step, .row");
  const marked = () => stops(".stop");
  const place = () => document.activeElement?.closest(".step, .row");

  const go = (row) => {
    if (!row) return;
    for (let up = row.parentElement?.closest("details"); up; up = up.parentElement?.closest("details")) up.open = true;
    row.scrollIntoView({ block: "center" });
    (row.querySelector("summary") ?? row).focus({ preventScroll: true });
  };
  const step = (list, by) => {
    const here = place();
    if (!here) return go(by > 0 ? list[0] : list[list.length - 1]);
    const at = list.indexOf(here);
    if (at >= 0) return go(list[at + by]);
    const side = by > 0 ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING;
    const rest = list.filter((one) => here.compareDocumentPosition(one) & side);
    go(by > 0 ? rest[0] : rest[rest.length - 1]);
  };
  const shut = () => {
    const all = stops(".step, .row, .fold").filter((one) => one.tagName === "DETAILS");
    const open = all.some((one) => !one.open);
    for (const one of all) one.open = open;
  };
  const keys = {
    j: () => step(rows(), 1),
    k: () => step(rows(), -1),
    n: () => step(marked(), 1),
    p: () => step(marked(), -1),
    e: shut,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  const target = () => {
    const row = location.hash && document.getElementById(location.hash.slice(1));
    if (!row || !row.matches(".step, .row")) return;
    if (row.tagName === "DETAILS") row.open = true;
    go(row);
  };
  addEventListener("hashchange", target);
  if (location.hash) target();
  else {
    const first = document.querySelector(".row.first");
    if (first && first.getBoundingClientRect().top > innerHeight * 0.75) first.scrollIntoView({ block: "center" });
  }
  for (const hint of stops(".keys")) hint.hidden = false;
})();
