// What the page does in the browser: theme, navigation, forms, dialogs, local previews. Uploads: see upload.js.
// Python renders every page; this file only carries files to the API and events to Python.
(() => {
  "use strict";
  const API = new URL("api/v1", document.baseURI).pathname; // the page may stand at a path of a proxy
  const PAGES = ["data", "train", "classify", "analyse", "models", "account"];

  // ---- theme ---------------------------------------------------------------------------------
  const stored = () => { try { return localStorage.getItem("wara-theme"); } catch { return null; } };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (stored() ? stored() === "dark" : system.matches);
  function applyTheme() {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    if (document.body && document.body.classList.contains("dark") !== dark()) {
      document.body.classList.toggle("dark", dark());
    }
  }
  function toggleTheme() {
    try { localStorage.setItem("wara-theme", dark() ? "light" : "dark"); } catch { /* stays for this visit only */ }
    applyTheme();
  }
  applyTheme();
  system.addEventListener("change", applyTheme);

  // ---- pages ---------------------------------------------------------------------------------
  const pageNow = () => {
    const wanted = location.hash.slice(1).split("/")[0];
    return PAGES.includes(wanted) ? wanted : PAGES[0];
  };
  let announcePage = () => {};
  function showPage(moveFocus) {
    const page = pageNow();
    document.body.dataset.page = page;
    document.title = `${page[0].toUpperCase()}${page.slice(1)} · WaRA Studio`;
    for (const link of document.querySelectorAll("#studio-header nav a")) {
      // Writing the same value again would count as a change, and call this again without end.
      if (link.hash !== "#" + page) link.removeAttribute("aria-current");
      else if (link.getAttribute("aria-current") !== "page") link.setAttribute("aria-current", "page");
    }
    if (moveFocus) {
      window.scrollTo(0, 0);
      document.querySelector(`#page-${page} h1`)?.focus({ preventScroll: true });
    }
  }
  window.addEventListener("hashchange", () => { showPage(true); announcePage(pageNow()); });
  document.addEventListener("DOMContentLoaded", () => {
    applyTheme();
    showPage(false);
    // Gradio sets the theme's class once more when it starts; the person's choice wins.
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });

  // ---- words ---------------------------------------------------------------------------------
  const count = (n) => n.toLocaleString("en-GB");
  const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
  const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
  function timeLeft(seconds) {
    if (!Number.isFinite(seconds)) return "";
    if (seconds < 60) return `about ${Math.max(1, Math.round(seconds))} s left`;
    return `about ${Math.round(seconds / 60)} min left`;
  }

  // ---- requests ------------------------------------------------------------------------------
  class Problem extends Error {
    constructor(sentence, body, status = 0) { super(sentence); this.body = body || {}; this.status = status; }
  }
  function send(path, form, { onBytes, signal, method = "POST" } = {}) {
    // XMLHttpRequest, because fetch cannot say how much of a body has been sent.
    return new Promise((resolve, reject) => {
      const stopped = () => reject(new Problem("Stopped.", { code: "stopped" }));
      if (signal?.aborted) { stopped(); return; }
      const request = new XMLHttpRequest();
      request.open(method, API + path);
      request.responseType = "text";
      if (onBytes) request.upload.addEventListener("progress", (event) => onBytes(event.loaded));
      request.addEventListener("load", () => {
        let body = null;
        try { body = request.responseText ? JSON.parse(request.responseText) : null; } catch { /* not JSON: below */ }
        if (request.status >= 200 && request.status < 300) resolve(body);
        else {
          const sentence = body && (body.detail || body.title);
          reject(new Problem(sentence || `The server could not take this (answer ${request.status}). Try again.`, body, request.status));
        }
      });
      request.addEventListener("error", () => reject(new Problem("The server does not answer. Check that it is running, then try again.")));
      request.addEventListener("abort", stopped);
      signal?.addEventListener("abort", () => request.abort());
      request.send(form);
    });
  }

  // ---- a question before something is deleted ----------------------------------------------------
  function ask(question, label, keep = "Keep") {
    return new Promise((resolve) => {
      const dialog = document.createElement("dialog");
      dialog.className = "ask";
      dialog.setAttribute("aria-label", question);
      const text = document.createElement("p");
      text.textContent = question;
      const row = document.createElement("div");
      row.className = "ask-buttons";
      const no = Object.assign(document.createElement("button"), { type: "button", className: "button button-quiet", textContent: keep });
      const yes = Object.assign(document.createElement("button"), { type: "button", className: "button button-danger", textContent: label });
      no.addEventListener("click", () => dialog.close("no"));
      yes.addEventListener("click", () => dialog.close("yes"));
      dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
      row.append(no, yes);
      dialog.append(text, row);
      document.body.append(dialog);
      dialog.showModal();
      no.focus();
    });
  }

  // Images that are still on their way from what is deleted now are not asked for any more. Those that stand there
  // after all, because the deletion was refused, come a little later.
  function holdImages(id) {
    for (const image of document.images) {
      if (image.complete || !image.src.includes(`/${id}/`)) continue;
      const { src } = image;
      image.removeAttribute("src");
      setTimeout(() => { if (image.isConnected && !image.hasAttribute("src")) image.src = src; }, 5000);
    }
  }

  // ---- what a person left so, though Python renders its part anew --------------------------------------
  function folds(element) {
    const left = new Map();
    const key = (fold) => fold.dataset.fold || fold.id;
    element.addEventListener("click", (click) => {
      const fold = click.target.closest("summary")?.parentElement;
      if (fold && key(fold)) left.set(key(fold), !fold.open);
    });
    const keep = () => {
      for (const fold of element.querySelectorAll("details")) {
        const open = left.get(key(fold)) ?? fold.open;
        if (fold.open !== open) fold.open = open;
      }
    };
    new MutationObserver(keep).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["open", "id", "data-fold"] });
  }

  // A table that is wider than its place is a stop of the Tab key, so that the arrow keys can move it.
  let looking = 0;
  function reach() {
    looking = 0;
    for (const box of document.querySelectorAll(".table-wrap")) {
      const wide = box.scrollWidth > box.clientWidth + 1;
      if (wide === box.hasAttribute("tabindex")) continue;
      if (!wide) { for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name); continue; }
      box.setAttribute("aria-label", box.querySelector("caption")?.textContent || "Table");
      box.setAttribute("role", "region");
      box.setAttribute("tabindex", "0");
    }
  }
  const reachSoon = () => { looking ||= requestAnimationFrame(reach); };
  window.addEventListener("resize", reachSoon);
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(reachSoon).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["tabindex", "data-page", "open"] });
  });

  // What is chosen in a long list is shown elsewhere on the page: it comes into view where it is out of it.
  const SHOWN_IN = { select: "data-detail", watch: "train-job" };
  function bringIntoView(place) {
    const { top } = place.getBoundingClientRect();
    if (top >= 0 && top < 0.6 * window.innerHeight) return;
    place.tabIndex = -1;
    place.focus({ preventScroll: true });
    place.scrollIntoView({ block: "start" });
  }

  // ---- buttons of Python's HTML --------------------------------------------------------------------
  function actions(element, trigger, event) {
    folds(element);
    element.addEventListener("click", async (click) => {
      const target = click.target.closest("[data-action]");
      if (!target || target.disabled) return;
      const { confirm: question, confirmLabel, ...data } = target.dataset;
      if (question && !(await ask(question, confirmLabel || "Delete"))) return;
      if (data.action === "delete") holdImages(data.id);
      trigger(event, data);
      const place = document.getElementById(SHOWN_IN[data.action]);
      if (place) bringIntoView(place);
    });
  }

  // A button that sends something, pressed once more while that is under way, does not send it twice.
  const busy = new WeakSet();
  async function once(button, task) {
    if (busy.has(button)) return;
    busy.add(button);
    button.setAttribute("aria-busy", "true");
    try { await task(); } finally {
      busy.delete(button);
      button.removeAttribute("aria-busy");
    }
  }

  // A link may wish a choice for a form of another page: data-wish="form:field=value".
  const wishes = new Map();
  let grantWishes = () => {};
  document.addEventListener("click", (click) => {
    const link = click.target.closest("a[data-wish]");
    if (!link) return;
    const cut = link.dataset.wish.indexOf("=");
    wishes.set(link.dataset.wish.slice(0, cut), link.dataset.wish.slice(cut + 1));
    grantWishes();
  });

  // ---- forms ---------------------------------------------------------------------------------------
  // Python re-renders a form by changing attributes in place, so what a person chose is kept by value here.
  function form(element, trigger, { changed, settled, submitted, typed } = {}) {
    folds(element);
    const chosen = new Map();
    const restore = () => {
      for (const select of element.querySelectorAll("select")) {
        const value = chosen.get(select.name);
        const there = value !== undefined && [...select.options].some((option) => option.value === value && !option.disabled);
        if (there && select.value !== value) select.value = value;
        if (!there) chosen.delete(select.name);
        const wish = `${element.closest(".block").id}:${select.name}`;
        if ([...select.options].some((option) => option.value === wishes.get(wish))) {
          const value = wishes.get(wish);
          wishes.delete(wish);
          if (select.value !== value) {
            select.value = value;
            select.dispatchEvent(new Event("change", { bubbles: true }));
          }
        }
      }
    };
    const grantBefore = grantWishes;
    grantWishes = () => { grantBefore(); restore(); };
    const fit = () => {
      const method = element.querySelector("input[name=method]:checked")?.value;
      for (const part of element.querySelectorAll("[data-methods]")) {
        const off = method !== undefined && !part.dataset.methods.split(" ").includes(method);
        // Writing the same value again would count as a change, and call this again without end.
        if (part.disabled !== off) part.disabled = off;
      }
      const dataset = element.querySelector("select[name=dataset_id]")?.value;
      for (const part of element.querySelectorAll("[data-sets]")) {
        const off = !part.dataset.sets.split(" ").includes(dataset);
        if (part.disabled !== off) part.disabled = off;
      }
    };
    const values = () => {
      const node = element.querySelector("form");
      return node ? Object.fromEntries([...new FormData(node)].filter(([, value]) => typeof value === "string")) : {};
    };
    // Tells what the form says when it is first shown, and when it says something else for a moment.
    let told = "", waiting;
    const settle = () => {
      if (!settled) return;
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const { name, ...now } = values();
        const text = JSON.stringify(now);
        if (text === told || text === "{}") return;
        told = text;
        trigger(settled, { values: now });
      }, 500);
    };
    element.addEventListener("change", (event) => {
      if (event.target.type === "file") return;
      if (event.target.tagName === "SELECT") chosen.set(event.target.name, event.target.value);
      fit();
      settle();
      if (changed) trigger(changed, { values: values(), source: event.target.name });
    });
    // With "typed", a pause in writing is a moment to tell what the form says, and not only leaving the field.
    if (typed) element.addEventListener("input", settle);
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (submitted) trigger(submitted, { values: values() });
    });
    new MutationObserver(() => { restore(); fit(); settle(); }).observe(element, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["value", "disabled"] });
    fit();
    settle();
  }

  // ---- files from a picker or a drop -----------------------------------------------------------------
  const wanted = (path) => !path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX" || part === "Thumbs.db" || part === "desktop.ini");
  async function readEntry(entry, found) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: entry.fullPath.replace(/^\//, "") });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const child of some) await readEntry(child, found);
    }
  }
  async function dropped(event) {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    for (const entry of entries) await readEntry(entry, found);
    return found;
  }
  function dropZone(zone, take) {
    let depth = 0;
    zone.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; zone.classList.add("over"); });
    zone.addEventListener("dragover", (event) => event.preventDefault());
    zone.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) zone.classList.remove("over"); });
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      depth = 0;
      zone.classList.remove("over");
      take(dropped(event));
    });
  }
  // A file that misses its place would be opened by the browser instead of this page, and what is under way be lost.
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      const files = event.dataTransfer?.types.includes("Files");
      if (!files || event.defaultPrevented || event.target.closest?.("input[type=file]")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    });
  }
  // The zip that was chosen, or none where files were. Several zips are refused before any of them is sent.
  function zipOf(found) {
    const files = found.filter((item) => wanted(item.path));
    const zips = files.filter((item) => /\.zip$/i.test(item.path));
    if (zips.length > 1 && zips.length === files.length) {
      throw new Problem(`Zips are taken one at a time (seen: ${zips.length} zips, such as ${zips[0].path}). Choose one of them, or unpack them into one folder.`);
    }
    return files.length === 1 && zips.length === 1 ? zips[0] : null;
  }
  // A progress line: bar, what is happening, how far, how long.
  function meter(box) {
    const bar = box.querySelector("progress");
    const text = box.querySelector("[data-part=text]");
    const alert = box.querySelector("[data-part=alert]");
    let started = 0, first = null;
    return {
      show(fraction, words) {
        box.dataset.state = "busy";
        alert.textContent = "";
        bar.value = fraction;
        // What was there before, of an upload that goes on, took no time now.
        if (first === null) { first = fraction; started = performance.now(); }
        const spent = (performance.now() - started) / 1000;
        const gone = fraction - first;
        const left = gone > 0.02 && spent > 1 ? timeLeft((spent / gone) * (1 - fraction)) : "";
        text.textContent = left ? `${words} · ${left}` : words;
      },
      done(words) { box.dataset.state = "done"; text.textContent = words; alert.textContent = ""; },
      fail(sentence) { box.dataset.state = "failed"; alert.textContent = sentence; text.textContent = ""; },
      idle() { box.dataset.state = ""; text.textContent = ""; alert.textContent = ""; },
    };
  }

  // ---- page Train: a weights file ------------------------------------------------------------------------
  function weights(element, trigger, event) {
    element.addEventListener("click", (click) => {
      const button = click.target.closest("[data-part=send-weights]");
      if (button) once(button, add);
    });
    async function add() {
      const line = meter(element.querySelector("[data-part=meter]"));
      const name = element.querySelector("[data-part=weights-name]").value.trim();
      const file = element.querySelector("[data-part=weights-file]").files[0];
      if (!name) { line.fail("The name of the architecture is missing. Give timm's name, for example deit_tiny_patch16_224."); return; }
      if (!file) { line.fail("No file is chosen. Choose a .safetensors or .pth file with weights."); return; }
      const body = new FormData();
      body.append("name", name);
      body.append("file", file, file.name);
      try {
        const made = await send("/backbones", body, {
          onBytes: (loaded) => line.show(Math.min(1, loaded / (file.size || 1)), loaded < file.size ? `Sending ${megabytes(loaded)} of ${megabytes(file.size)}` : "Checking that the weights fit the architecture"),
        });
        line.done(`Added: ${made.label || made.name}.`);
        trigger(event, { id: made.id });
      } catch (error) {
        line.fail(error instanceof Problem ? error.message : "The browser could not read this file. Choose it again.");
      }
    }
  }

  // ---- header ------------------------------------------------------------------------------------------------
  function header(element, trigger) {
    announcePage = (page) => trigger("show_" + page);
    element.addEventListener("click", (click) => {
      if (click.target.closest("[data-part=theme]")) toggleTheme();
      if (click.target.closest("[data-part=skip]")) document.querySelector(`#page-${pageNow()} h1`)?.focus();
    });
    // Python renders the header in place, and what it does not know of is taken off its elements.
    new MutationObserver(() => showPage(false)).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-current"] });
    showPage(false);
  }

  // Uploads, the covering of text and the page Classify have scripts of their own: upload.js, mask.js, classify.js.
  const tools = { API, Problem, send, ask, meter, once, wanted, dropZone, zipOf, count, megabytes, plural };
  window.studio = { actions, form, weights, header, tools };
})();
