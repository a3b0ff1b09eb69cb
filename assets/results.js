// What the page Models does in the browser: which models are chosen for a comparison, and moving to what was opened.
(() => {
  "use strict";

  // Measuring takes a moment the first time: a line says so until what was asked for is there.
  let clock = 0;
  function wait(element, words) {
    done();
    const line = Object.assign(document.createElement("p"), { className: "alert models-wait" });
    line.setAttribute("role", "status");
    const started = performance.now();
    const tick = () => { line.textContent = `${words} · ${Math.round((performance.now() - started) / 1000)} s; the first time it takes a few seconds`; };
    tick();
    clock = setInterval(tick, 1000);
    element.append(line);
  }
  function done() {
    clearInterval(clock);
    for (const line of document.querySelectorAll(".models-wait")) line.remove();
  }

  // The check boxes of the list go with the button that compares. Python renders the list in place: of itself a check
  // mark would stay in its row while another model comes to stand there.
  function compare(element, trigger, event) {
    const picked = new Set();
    const boxes = () => [...element.querySelectorAll("input[name=compare]")];
    element.addEventListener("change", ({ target }) => {
      if (target.name === "compare") picked[target.checked ? "add" : "delete"](target.value);
    });
    const keep = () => { for (const box of boxes()) box.checked = picked.has(box.value); find(); };
    // Rows stay in the page, so that a check mark holds whether its row is shown or not.
    const find = () => {
      const field = element.querySelector("#models-find");
      const wanted = (field?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...element.querySelectorAll("tbody tr")];
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = wanted.every((word) => text.includes(word));
        if (row.hidden === fits) row.hidden = !fits;
        shown += fits;
      }
      const told = element.querySelector("[data-part=found]");
      if (!told) return;
      const words = wanted.length ? `${shown} of ${rows.length} models` : `${rows.length} models`;
      if (told.textContent !== words) told.textContent = words;
    };
    element.addEventListener("input", ({ target }) => { if (target.id === "models-find") find(); });
    new MutationObserver(keep).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["value"] });
    element.addEventListener("click", (click) => {
      if (click.target.closest("[data-action=results]")) wait(element, "Measuring the test images");
      if (!click.target.closest("[data-part=compare]")) return;
      wait(element, "Measuring the models on the same test images");
      const ids = boxes().filter((box) => box.checked).map((box) => box.value);
      trigger(event, { action: "compare", ids });
    });
  }

  // The form of the operating point; it starts anew for another model, whatever was chosen before.
  function point(element, trigger, event) {
    let key = "";
    const tell = () => {
      const form = element.querySelector("form");
      const answer = document.querySelector("#results-point");
      form.setAttribute("aria-busy", "true");
      new MutationObserver((_, own) => { form.removeAttribute("aria-busy"); own.disconnect(); }).observe(answer, { childList: true, subtree: true, characterData: true, attributes: true });
      trigger(event, { values: Object.fromEntries(new FormData(form)) });
    };
    element.addEventListener("change", tell);
    element.addEventListener("submit", (submitted) => { submitted.preventDefault(); tell(); });
    const start = () => {
      const form = element.querySelector("form");
      if (!form || form.dataset.key === key) return;
      key = form.dataset.key;
      form.reset();
    };
    new MutationObserver(start).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-key"] });
    start();
  }

  // What a person asked for is brought into view, and the keyboard goes on from there; once for each opening.
  function reveal(element) {
    let seen = "";
    const look = () => {
      const target = element.querySelector("[data-reveal]");
      if (!target) { seen = ""; return; }
      if (target.dataset.reveal === seen) return;
      seen = target.dataset.reveal;
      done();
      requestAnimationFrame(() => {
        target.focus({ preventScroll: true });
        target.scrollIntoView({ block: "start" });
      });
    };
    new MutationObserver(look).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-reveal"] });
    look();
  }

  Object.assign(window.studio, { compare, point, reveal });
})();
