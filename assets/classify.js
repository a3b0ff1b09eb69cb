// The page Classify: files go to the server a few at a time, answers come back as a batch that outlives this page.
// Images stay in the browser and the model's memory. Python renders the results; see app/pages/classify.py.
(() => {
  "use strict";
  const { Problem, send, meter, wanted, dropZone, zipOf, count, megabytes, plural } = window.studio.tools;
  const CURRENT = "wara-batch";
  const MOST_FILES = 64, MOST_BYTES = 64e6; // of one request
  const ASKED_MS = 1500; // about how long a request may take, so that progress is seen
  const AGAIN_MS = 3000, POLL_MS = 1000, TOLD_MS = 2000;
  const LOST_MS = 10000; // an answer of the page's own that takes longer does not come any more
  const OPEN = ["receiving", "running"];

  const get = (path) => send(path, null, { method: "GET" });
  const asJson = (path, value) => send(path, new Blob([JSON.stringify(value)], { type: "application/json" }));
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const remembered = () => { try { return sessionStorage.getItem(CURRENT); } catch { return null; } };
  const remember = (id) => { try { sessionStorage.setItem(CURRENT, id); } catch { /* this visit only */ } };

  let files = []; // by their number in the batch; empty where they are not in this browser
  const addresses = new Map();
  function holdFiles(list) {
    for (const url of addresses.values()) URL.revokeObjectURL(url);
    addresses.clear();
    files = list;
  }
  function address(number) {
    if (!files[number]) return null;
    if (!addresses.has(number)) addresses.set(number, URL.createObjectURL(files[number]));
    return addresses.get(number);
  }

  // ---- files, a zip or a data set to classify ---------------------------------------------------------------
  let classifyFrom = () => {}, classifyDataset = () => {}, openBatch = () => {};
  function classify(element, trigger, event) {
    const part = (name) => element.querySelector(`[data-part=${name}]`);
    const line = meter(part("meter"));
    let control = null; // of what is under way
    let told = 0, step = 0;
    const model = () => document.querySelector("#f-model")?.value;
    const path = (batch) => `/batches/${encodeURIComponent(batch.id)}`;
    // Python shows the batch as it is now; while it is under way, not more often than every other second. Each showing
    // is waited for before the next is asked for: Python's answers may overtake each other, and the last must stay.
    const shown = () => step === 0 || document.querySelector(`#classify-results [data-step="${step}"]`) !== null;
    function tell(batch) {
      const since = Date.now() - told;
      if (since >= (shown() ? TOLD_MS : LOST_MS)) show(batch.id, false);
    }
    async function tellEnd(id) {
      while (!shown() && Date.now() - told < LOST_MS) await pause(50);
      show(id, true);
    }
    function show(id, over) {
      told = Date.now();
      step += 1;
      trigger(event, { id, local: files.length > 0, over, step });
    }
    const far = (batch) => line.show(batch.done / batch.total, `${count(batch.done)} of ${plural(batch.total, "image")} classified`);

    async function run(work) {
      if (control) return;
      if (!model()) { line.fail("There is no model here to classify with. What to do about it stands on this page."); return; }
      control = new AbortController();
      element.firstElementChild.setAttribute("aria-busy", "true");
      let batch = null;
      const begun = (made) => { batch = made; remember(made.id); };
      try {
        forgetExplanations();
        await work(control.signal, begun);
        line.idle();
      } catch (error) {
        if (error.body?.code === "stopped") line.idle();
        else line.fail(error instanceof Problem ? error.message : "The browser could not read these files. Choose them again.");
      } finally {
        if (batch) await tellEnd(batch.id);
        control = null;
        element.firstElementChild.removeAttribute("aria-busy");
        for (const name of ["images", "folder", "zip"]) part(name).value = "";
      }
    }

    // The batch that a reload or a lost connection left open goes on when the same files are chosen again.
    async function batchOf(chosen, list) {
      const id = remembered();
      const open = id ? await get(`/batches/${encodeURIComponent(id)}`).catch(() => null) : null;
      if (open && open.state === "receiving" && open.model_id === model()) {
        const { items } = await asJson(`${path(open)}/places`, { files: list });
        if (items.every(Boolean)) return { batch: open, places: items };
      }
      const batch = await asJson(`/models/${encodeURIComponent(model())}/batches`, { files: list });
      return { batch, places: list.map((_, number) => ({ number, done: false })) };
    }

    const sendFiles = async (chosen, signal, begun) => {
      const kept = chosen.filter((item) => wanted(item.path));
      if (!kept.length) throw new Problem("No image was chosen. Choose one or more images, or a folder of them.");
      // A folder comes in no order; images that were chosen one by one stay as they were chosen.
      if (kept[0].path.includes("/")) kept.sort((a, b) => a.path.localeCompare(b.path, "en", { numeric: true }));
      line.show(0, `${plural(kept.length, "image")} chosen`);
      const { batch, places } = await batchOf(kept, kept.map(({ file, path: name }) => ({ name, size: file.size })));
      const held = [];
      places.forEach((place, at) => { held[place.number] = kept[at].file; });
      holdFiles(held);
      begun(batch);
      const due = kept.filter((_, at) => !places[at].done);
      let now = batch, most = 4;
      while (due.length) {
        if (signal.aborted) return;
        far(now);
        let size = 0, some = 0;
        while (some < due.length && some < most && (some === 0 || size + due[some].file.size <= MOST_BYTES)) size += due[some++].file.size;
        const began = performance.now();
        now = (await sendSome(now, due.slice(0, some), signal)).batch;
        due.splice(0, some);
        const spent = performance.now() - began;
        if (spent > 2 * ASKED_MS) most = Math.max(1, Math.floor(some / 2));
        else if (spent < ASKED_MS) most = Math.min(MOST_FILES, most * 2);
        if (due.length) tell(now);
      }
    };
    async function sendSome(batch, some, signal) {
      for (;;) {
        const body = new FormData();
        for (const { file, path: name } of some) body.append("files", file, name);
        try {
          return await send(`${path(batch)}/files`, body, { signal });
        } catch (error) {
          if (error.body?.code === "batch-not-receiving") {
            const now = await get(path(batch)); // the answer to the last request was lost, or somebody stopped it
            if (now.state === "done") return { batch: now };
            throw new Problem("Stopped.", { code: "stopped" });
          }
          if (error.status !== 0 || error.body?.code === "stopped") throw error;
          for (const { file } of some) await file.slice(0, 1).arrayBuffer(); // fails where the file itself has gone
          line.show(batch.done / batch.total, "The server does not answer; trying again. What is done is kept");
          await pause(AGAIN_MS);
          if (signal.aborted) throw new Problem("Stopped.", { code: "stopped" });
        }
      }
    }

    async function watch(batch, signal) {
      for (let now = batch; now.state === "running"; now = await get(path(now))) {
        far(now);
        tell(now);
        await pause(POLL_MS);
        if (signal.aborted) return;
      }
    }
    const sendZip = async (file, signal, begun) => {
      holdFiles([]);
      const body = new FormData();
      body.append("files", file, "images.zip");
      const batch = await send(`/models/${encodeURIComponent(model())}/batches/zip`, body, {
        signal,
        onBytes: (sent) => line.show(Math.min(1, sent / (file.size || 1)), `Sending ${megabytes(sent)} of ${megabytes(file.size)}`),
      });
      begun(batch);
      await watch(batch, signal);
    };
    classifyDataset = (id) => run(async (signal, begun) => {
      holdFiles([]);
      const batch = await asJson(`/models/${encodeURIComponent(model())}/batches`, { dataset_id: id });
      begun(batch);
      await watch(batch, signal);
    });

    // Shows a batch of before; one that the server is still working through is watched.
    openBatch = async (id) => {
      if (control) return;
      const batch = await get(`/batches/${encodeURIComponent(id)}`).catch(() => null);
      if (!batch || control) return;
      holdFiles([]);
      remember(batch.id);
      if (batch.state === "running" && model()) run(async (signal, begun) => { begun(batch); await watch(batch, signal); });
      else await tellEnd(batch.id);
    };

    const take = (given) => run(async (signal, begun) => {
      const found = await given;
      const zip = zipOf(found);
      await (zip ? sendZip(zip.file, signal, begun) : sendFiles(found, signal, begun));
    });
    const chosen = (change) => take([...change.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    for (const name of ["images", "folder", "zip"]) part(name).addEventListener("change", (change) => { if (change.target.files.length) chosen(change); });
    dropZone(part("zone"), take);
    part("stop").addEventListener("click", async () => {
      const id = remembered();
      control?.abort();
      if (id) await send(`/batches/${encodeURIComponent(id)}/cancel`, null).catch(() => null);
      if (id) await tellEnd(id);
    });
    classifyFrom = async (list) => {
      try {
        take(await Promise.all(list.map(async (url) => {
          const answer = await fetch(url);
          if (!answer.ok) throw new Error(`answer ${answer.status}`);
          const name = url.slice(url.lastIndexOf("/") + 1);
          return { file: new File([await answer.blob()], name, { type: "image/png" }), path: name };
        })));
      } catch (error) {
        console.warn(error);
        line.fail("The images of the demo did not arrive. Check that the server is running, then try again.");
      }
    };
    // What was on the page before it was loaded again; Gradio listens a moment after this runs.
    setTimeout(() => { const id = remembered(); if (id) openBatch(id); }, 800);
  }
  function others(element) {
    element.addEventListener("click", (click) => {
      const demo = click.target.closest("[data-demo]"), open = click.target.closest("[data-open]");
      if (demo) classifyFrom(demo.dataset.demo.split(" "));
      if (open) openBatch(open.dataset.open);
      if (click.target.closest("[data-part=classify-here]")) classifyDataset(element.querySelector("select").value);
    });
  }
  function localPreviews(element) {
    const fill = () => {
      for (const image of element.querySelectorAll("img[data-local]")) {
        const url = address(Number(image.dataset.local));
        if (!url) image.parentElement.dataset.state = "none";
        else if (image.getAttribute("src") !== url) {
          image.parentElement.dataset.state = "";
          // DICOM and most TIFF files cannot be drawn by a browser; the frame then says so in words.
          image.onerror = () => { image.parentElement.dataset.state = "none"; };
          image.onload = () => { image.parentElement.dataset.size = `${image.naturalWidth} × ${image.naturalHeight}`; };
          image.setAttribute("src", url);
        }
      }
    };
    new MutationObserver(fill).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ["src", "data-local"] });
    fill();
  }

  // ---- why: an image goes to the server once more, and its figure stays in this page alone ----------------------
  let forgetExplanations = () => {};
  function explain(element) {
    const parts = (box) => Object.fromEntries([...box.querySelectorAll("[data-part]")].map((node) => [node.dataset.part, node]));
    function close(box) {
      const { ask, text, alert, figure } = parts(box);
      box.dataset.state = "closed";
      ask.setAttribute("aria-expanded", "false");
      text.textContent = alert.textContent = "";
      figure.replaceChildren();
    }
    forgetExplanations = () => element.querySelectorAll("[data-why]").forEach(close);
    function show(box, answer) {
      const { ask, text, figure } = parts(box);
      for (const theme of ["light", "dark"]) {
        const image = new Image();
        image.className = `only-${theme}`;
        image.alt = answer.sentence;
        image.src = answer.figures[theme];
        figure.append(image);
      }
      const caption = document.createElement("figcaption");
      for (const sentence of [answer.sentence, answer.attention_note].filter(Boolean)) {
        caption.append(Object.assign(document.createElement("p"), { textContent: sentence }));
      }
      const limits = "The colours show what the training added for this answer; they are no finding and mark no lesion.";
      caption.append(Object.assign(document.createElement("p"), { className: "hint", textContent: limits }));
      figure.append(caption);
      box.dataset.state = "open";
      ask.setAttribute("aria-expanded", "true");
      text.textContent = "";
    }
    element.addEventListener("click", async (click) => {
      const box = click.target.closest("[data-part=ask]")?.closest("[data-why]");
      if (!box || box.dataset.state === "busy") return;
      if (box.dataset.state === "open") { close(box); return; }
      const file = files[Number(box.dataset.why)];
      const { text, alert } = parts(box);
      box.dataset.state = "busy";
      alert.textContent = "";
      const started = performance.now();
      const tick = () => { text.textContent = `Looking into the answer · ${Math.round((performance.now() - started) / 1000)} s; it takes a few seconds`; };
      tick();
      const clock = setInterval(tick, 1000);
      try {
        const body = new FormData();
        body.append("file", file, file.name);
        const answer = await send(`/models/${encodeURIComponent(box.dataset.model)}/explain?theme=both`, body);
        if (files[Number(box.dataset.why)] === file) show(box, answer);
      } catch (error) {
        close(box);
        alert.textContent = error instanceof Problem ? error.message : "The browser could not read this file. Choose it again.";
      } finally {
        clearInterval(clock);
      }
    });
  }

  Object.assign(window.studio, { classify, others, localPreviews, explain });
})();
