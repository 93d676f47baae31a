"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  const table = $("table");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies];
  const rows = bodies.flatMap((body) => [...body.rows].filter((row) => row.id));

  // Sorting: within each dataset and forget size; pinned rows stay on top, references below.
  const kinds = ["pin", "ranked", "ref"];
  const kindOf = (row) => kinds.findIndex((kind) => row.classList.contains(kind));
  const first = new Map(rows.map((row, place) => [row, place]));
  const split = (body) => {
    const own = [...body.rows].filter((row) => row.id);
    own.forEach((row, place) => row.classList.toggle("split", place > 0 && kindOf(row) !== kindOf(own[place - 1])));
  };
  const sort = (column, down) => {
    const value = (row) => row.cells[column].dataset.v ?? "";
    const isText = heads[column].dataset.sort === "text";
    const order = (one, other) => {
      const byKind = kindOf(one) - kindOf(other);
      if (byKind || kindOf(one) === 0) return byKind || first.get(one) - first.get(other);
      const [a, b] = [value(one), value(other)];
      // What is missing comes last either way.
      if (a === "" || b === "") return (a === "") - (b === "") || first.get(one) - first.get(other);
      const way = isText ? a.localeCompare(b) : a - b;
      return (down ? -way : way) || first.get(one) - first.get(other);
    };
    for (const body of bodies) {
      const own = [...body.rows].filter((row) => row.id);
      body.append(...own.sort(order));
      split(body);
    }
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    head.tabIndex = 0;
    const click = () => {
      const now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : head.dataset.sort === "down");
    };
    head.addEventListener("click", click);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); click(); }
    });
  });

  // Filtering, by words, what a row saw, and dataset with forget size.
  const tools = $("tools");
  tools.hidden = false;
  const filter = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const seen = $("seen").value;
    const block = $("block") ? $("block").value : "";
    let shown = 0;
    for (const row of rows) {
      const fits = (!seen || row.dataset.seen === seen || kindOf(row) === 0)
        && (!block || row.parentNode.id === block)
        && words.every((word) => row.dataset.asked.toLowerCase().includes(word));
      row.classList.toggle("none", !fits);
      shown += fits;
    }
    for (const body of bodies) {
      const isEmpty = [...body.rows].every((row) => !row.id || row.classList.contains("none"));
      body.rows[0].classList.toggle("none", isEmpty);
    }
    $("count").textContent = `${shown} of ${rows.length} rows`;
  };
  for (const id of ["find", "seen", "block"]) if ($(id)) $(id).addEventListener("input", filter);
  filter();

  // Copying a table as LaTeX, with the old way where the new one is not allowed.
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", text, document.body);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const body of bodies) {
    const tex = $(`tex-${body.id}`);
    const button = make("button", "copy as LaTeX", body.rows[0].cells[0]);
    button.type = "button";
    button.addEventListener("click", async () => {
      await copy(tex.content.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy as LaTeX"; }, 1500);
    });
  }

  // Where a number comes from: unpacked when somebody asks for the first time.
  let unpacked;
  const traces = () => {
    unpacked ??= (async () => {
      const raw = Uint8Array.from(atob($("traces").textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Response(stream).json();
    })();
    return unpacked;
  };
  const line = (list, name, text) => {
    const row = make("tr", undefined, list);
    make("td", name, row).className = "soft";
    make("td", text, row);
  };
  const job = (all, place, list) => {
    const [stage, key, label, content, cost, fingerprint, inputs, hasLog] = all[place];
    const row = make("tr", undefined, list);
    make("td", `${stage}/${key}`, row).className = "name";
    const cell = make("td", `${label}: ${content ? `content ${content}, ${cost}` : "no result"}`, row);
    if (fingerprint) make("div", `fingerprint ${fingerprint}`, cell).className = "soft";
    const from = inputs.map(([name, other]) => `${name} ${all[other][0]}/${all[other][1]}`).join(", ");
    make("div", `inputs: ${from || "none"}`, cell).className = "soft";
    if (hasLog) make("a", "log", cell).href = `../logs/${key}.log`;
  };
  const show = async (asked, column) => {
    const { jobs, rows: known } = await traces();
    const found = known[asked];
    const { key } = heads[column].dataset;
    const box = $("why");
    box.replaceChildren();
    const close = make("button", "close", box);
    close.className = "close";
    close.addEventListener("click", () => box.close());
    const title = heads[column].textContent.trim();
    make("h3", key ? `${asked}: ${title}` : asked, box);
    make("p", `method ${found.method}${found.requests > 1 ? `, ${found.requests} requests per seed` : ""}`, box);
    const list = make("table", undefined, box);
    for (const [text, seeds] of Object.entries(found.hyperparameters)) line(list, `hyperparameters, seed ${seeds.join(", ")}`, text);
    if (found.truth) line(list, "", $("truth").textContent);
    line(list, "network", found.network);
    line(list, "training", found.training);
    const measure = key === "gain" ? "tow" : key;
    for (const [seed, values, made, places] of found.seeds) {
      const part = make("details", undefined, box);
      part.open = found.seeds.length === 1;
      const value = measure ? `: ${values[measure] ?? "missing"}` : "";
      make("summary", `seed ${seed}${value} (${places.length} jobs)`, part);
      const own = make("table", undefined, part);
      for (const [name, text] of Object.entries(made)) line(own, name, text);
      for (const place of places) job(jobs, place, own);
    }
    make("p", "The same in a terminal, with the command that computes it alone:", box);
    make("pre", `${$("why-command").textContent} row="${asked} ${measure || "tow"}"`, box);
    box.showModal();
  };
  table.addEventListener("click", (event) => {
    const link = event.target.closest("td a");
    if (!link) return;
    event.preventDefault();
    const cell = link.closest("td");
    show(cell.parentNode.dataset.asked, cell.cellIndex);
  });
  $("why").addEventListener("click", (event) => { if (event.target === $("why")) $("why").close(); });

  // On paper everything is open, and afterwards as it was.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
})();
