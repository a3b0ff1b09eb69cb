// Models that leave and come in. Files that the server makes first: what is happening meanwhile, the file, or a
// sentence why there is none. A zip that is brought in: how far it is, what came of it, or why it was refused.
(() => {
  "use strict";

  // The server knows the name: attachment; filename*=UTF-8''NAME
  function named(answer) {
    const found = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("content-disposition") || "");
    return found ? decodeURIComponent(found[1]) : "model";
  }

  function save(blob, name) {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  async function refusal(answer) {
    let body = null;
    try { body = await answer.json(); } catch { /* not JSON: below */ }
    const other = `The server could not make this file (answer ${answer.status}). Try again; the server's log says more.`;
    return (body && (body.detail || body.title)) || other;
  }

  async function make(button, state, alert) {
    const { megabytes } = window.studio.tools;
    const started = performance.now();
    const tick = () => { state.textContent = `Making the file · ${Math.round((performance.now() - started) / 1000)} s; it takes some seconds`; };
    // Not "disabled", which would take the keyboard's focus away.
    button.setAttribute("aria-disabled", "true");
    button.setAttribute("aria-busy", "true");
    alert.textContent = "";
    tick();
    const clock = setInterval(tick, 1000);
    try {
      const answer = await fetch(button.dataset.export);
      if (answer.ok) {
        const blob = await answer.blob();
        save(blob, named(answer));
        state.textContent = `Saved as ${named(answer)}, ${megabytes(blob.size)}.`;
      } else {
        state.textContent = "";
        alert.textContent = await refusal(answer);
      }
    } catch {
      state.textContent = "";
      alert.textContent = "The server does not answer, or stopped in the middle. Check that it is running, then try again.";
    } finally {
      clearInterval(clock);
      button.removeAttribute("aria-disabled");
      button.removeAttribute("aria-busy");
    }
  }

  function exports(element) {
    element.addEventListener("click", (click) => {
      const button = click.target.closest("[data-export]");
      if (!button || button.getAttribute("aria-disabled") === "true") return;
      const part = (name) => button.closest("li").querySelector(`[data-part=${name}]`);
      make(button, part("state"), part("alert"));
    });
  }

  function bringIn(element, trigger, event) {
    element.addEventListener("click", (click) => {
      const button = click.target.closest("[data-part=bring-in]");
      if (button) window.studio.tools.once(button, bring);
    });
    async function bring() {
      const { Problem, send, meter, megabytes, count } = window.studio.tools;
      const line = meter(element.querySelector("[data-part=meter]"));
      const file = element.querySelector("[data-part=model-file]").files[0];
      if (!file) { line.fail("No file is chosen. Choose the zip that Download gave on the page Models of the other machine."); return; }
      const body = new FormData();
      body.append("file", file, file.name);
      try {
        const made = await send("/models", body, {
          onBytes: (loaded) => line.show(Math.min(1, loaded / (file.size || 1)), loaded < file.size ? `Sending ${megabytes(loaded)} of ${megabytes(file.size)}` : "Checking the model; this takes some seconds"),
        });
        const left = made.passed_over_count ? ` Not taken: ${count(made.passed_over_count)} files that no model needs, such as ${made.passed_over[0]}.` : "";
        line.done(`${made.name} is here now, and can be chosen on the pages Classify and Analyse.${left}`);
        trigger(event, { id: made.id });
      } catch (error) {
        line.fail(error instanceof Problem ? error.message : "The browser could not read this file. Choose it again.");
      }
    }
  }

  Object.assign(window.studio, { exports, bringIn });
})();
