// Uploads of data sets that go on: packs of small files and large files by the tus protocol, pause, resume, retry.
// The browser remembers an unfinished upload by a fingerprint of the folder's listing, never by names of files.
(() => {
  "use strict";
  const { API, Problem, send, meter, wanted, dropZone, zipOf, count, megabytes, plural } = window.studio.tools;
  const CHUNK_BYTES = 8 * 1024 * 1024;
  const PACK_FILES = 1000;
  const LONGEST_PAUSE_S = 20;
  const REMEMBERED = "wara-uploads";
  const SHOWN_REFUSED = 100;

  // ---- fingerprints and sums -----------------------------------------------------------------
  // Four lanes of FNV-1a with multipliers of their own: 128 bits, in browsers without crypto.subtle too.
  const LANES = [[0x811c9dc5, 0x01000193], [0x2f0b4c27, 0x85ebca6b], [0x6a09e667, 0xc2b2ae35], [0xbb67ae85, 0x9e3779b1]];
  function hash(text) {
    const lanes = LANES.map(([start]) => start);
    for (let place = 0; place < text.length; place += 1) {
      const code = text.charCodeAt(place);
      for (let lane = 0; lane < 4; lane += 1) lanes[lane] = Math.imul(lanes[lane] ^ code, LANES[lane][1]);
    }
    return lanes.map((lane) => ((lane ^ (lane >>> 15)) >>> 0).toString(16).padStart(8, "0")).join("");
  }
  const fingerprint = (files) =>
    hash(files.map((item) => `${item.path}\n${item.file.size}\n${item.file.lastModified}`).sort().join("\n"));
  const bytesOf = (files) => files.reduce((sum, item) => sum + item.file.size, 0);
  const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
  let table = null;
  function crc32(bytes) {
    table ??= Uint32Array.from({ length: 256 }, (_, value) => {
      for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
      return value;
    });
    let sum = -1;
    for (const byte of bytes) sum = table[(sum ^ byte) & 255] ^ (sum >>> 8);
    sum = ~sum;
    return Uint8Array.of(sum >>> 24, sum >>> 16, sum >>> 8, sum);
  }
  async function checksum(blob) {
    const bytes = await blob.arrayBuffer();
    // Browsers offer hashes to pages of this machine and of https only.
    if (!window.crypto?.subtle) return `crc32 ${base64(crc32(new Uint8Array(bytes)))}`;
    return `sha256 ${base64(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)))}`;
  }

  // tus-js-client sends no checksums; its requests are given one here, of the very bytes that are sent.
  class Requests {
    constructor() { this.stack = new tus.DefaultHttpStack({}); }
    getName() { return "checked requests"; }
    createRequest(method, url) {
      const request = this.stack.createRequest(method, url);
      const plain = request.send.bind(request);
      const stop = request.abort.bind(request);
      let stopped = false;
      request.abort = () => { stopped = true; return stop(); };
      request.send = async (body) => {
        if (body) request.setHeader("Upload-Checksum", await checksum(body));
        // Aborted while the sum was made: the answer never comes, as with any aborted request.
        return stopped ? new Promise(() => {}) : plain(body);
      };
      return request;
    }
  }

  // ---- what this browser remembers -------------------------------------------------------------
  function remembered() {
    try { return JSON.parse(localStorage.getItem(REMEMBERED)) || []; } catch { return []; }
  }
  function remember(list) {
    try { localStorage.setItem(REMEMBERED, JSON.stringify(list.slice(-20))); } catch { /* for this visit only */ }
  }
  const forget = (dataset) => remember(remembered().filter((entry) => entry.dataset !== dataset));

  // ---- what is sent together ---------------------------------------------------------------------
  // Small files share a pack: one line of JSON with names and sizes, then their bytes. Large ones go alone, by pieces.
  // The same files always make the same units, so that what has arrived is known by keys, without any names.
  function units(files) {
    const packs = [];
    const large = [];
    let bytes = 0;
    for (const item of [...files].sort((one, other) => (one.path < other.path ? -1 : 1))) {
      if (item.file.size >= CHUNK_BYTES || /\.zip$/i.test(item.path)) { large.push([item]); continue; }
      const last = packs[packs.length - 1];
      if (!last || last.length >= PACK_FILES || bytes + item.file.size > CHUNK_BYTES) { packs.push([]); bytes = 0; }
      packs[packs.length - 1].push(item);
      bytes += item.file.size;
    }
    const asPack = (items) => {
      const head = new TextEncoder().encode(JSON.stringify(items.map((item) => [item.path, item.file.size])) + "\n");
      // A Blob of Blobs reads nothing yet, so memory stays flat whatever the size.
      return { items, path: null, head: head.length, body: new Blob([head, ...items.map((item) => item.file)]) };
    };
    return [
      ...packs.map(asPack),
      ...large.map(([item]) => ({ items: [item], path: item.path, head: 0, body: item.file })),
    ].map((unit) => ({ ...unit, key: fingerprint(unit.items), weight: bytesOf(unit.items) }));
  }

  // ---- one upload by tus ---------------------------------------------------------------------------
  class Again extends Error {}
  // Sends a unit to its end. Rejects with Again when it should be tried once more, with a Problem when not.
  function transfer(unit, control, { dataset, total, onBytes }) {
    return new Promise((resolve, reject) => {
      const leave = control.during(() => { upload.abort(); reject(new Again("paused")); });
      const done = (end) => (value) => { leave(); end(value); };
      const upload = new tus.Upload(unit.body, {
        // With an address known, no other upload may be begun by the client itself: what has arrived is there.
        endpoint: unit.url ? null : `${API}/uploads`,
        uploadUrl: unit.url || null,
        chunkSize: unit.body.size > CHUNK_BYTES * 1.5 ? CHUNK_BYTES : Infinity,
        metadata: { dataset, key: unit.key, total: String(total), ...(unit.path ? { path: unit.path } : {}) },
        retryDelays: null,
        storeFingerprintForResuming: false,
        fingerprint: () => Promise.resolve(null),
        httpStack: new Requests(),
        onUploadUrlAvailable: () => { unit.url = upload.url; },
        onProgress: (sent) => onBytes(Math.max(0, sent - unit.head)),
        onChunkComplete: () => { control.failures = 0; },
        onSuccess: done(resolve),
        onError: (error) => {
          const answer = error.originalResponse;
          const status = answer?.getStatus() || 0;
          let body = null;
          try { body = JSON.parse(answer.getBody()); } catch { /* no answer, or none in words */ }
          if (unit.url && (status === 404 || status === 410) && body?.code !== "data-set-not-found") {
            unit.url = null; // it has expired: begin it anew
            done(reject)(new Again("gone"));
          } else if (status === 0 && error.causingError instanceof DOMException) {
            done(reject)(new Problem("The browser can no longer read one of the files. Choose the folder again to go on."));
          } else if (status === 0 || status === 408 || status === 409 && body?.code === "wrong-offset" || status === 423 || status === 460 || status >= 500 && status !== 507) {
            done(reject)(new Again(`answer ${status}`));
          } else {
            done(reject)(new Problem(body?.detail || `The server could not take this (answer ${status}). Try again.`, body, status));
          }
        },
      });
      if (control.paused || control.signal.aborted) { leave(); reject(new Again("paused")); return; }
      upload.start();
    });
  }

  // Pause, resume and stop of one upload, and the pauses between attempts.
  function controls() {
    const stopping = new AbortController();
    const running = new Set();
    let wake = () => {};
    const control = {
      signal: stopping.signal, paused: false, failures: 0,
      during(stop) { running.add(stop); return () => running.delete(stop); },
      halt() { for (const stop of [...running]) stop(); },
      pause() { control.paused = true; control.halt(); },
      wake() { wake(); },
      resume() { control.paused = false; control.failures = 0; wake(); },
      stop() { stopping.abort(); control.halt(); wake(); },
      check() { if (stopping.signal.aborted) throw new Problem("Stopped.", { code: "stopped" }); },
      async rest(seconds) {
        await new Promise((resolve) => { wake = resolve; if (seconds !== null) setTimeout(resolve, 1000 * seconds); });
      },
    };
    return control;
  }

  // Does a task again until it is done: a server that restarts or a network that is away is waited for.
  async function steadily(control, line, task) {
    for (;;) {
      control.check();
      while (control.paused) { await control.rest(null); control.check(); }
      try {
        const answer = await task();
        control.failures = 0;
        return answer;
      } catch (error) {
        control.check();
        if (control.paused) continue;
        const retry = error instanceof Again || (error instanceof Problem && !error.body.code && (error.status === 0 || error.status >= 500));
        if (!retry) throw error;
        if (error.message === "gone") continue;
        control.failures += 1;
        const pause = Math.min(LONGEST_PAUSE_S, 2 ** (control.failures - 2));
        line.wait("The server does not answer. What has arrived is kept; this page goes on by itself once it is back.");
        window.addEventListener("online", control.wake);
        await control.rest(pause);
        window.removeEventListener("online", control.wake);
      }
    }
  }

  // Once a lost server is back, Gradio loads the page anew, which would end an upload that goes on by itself. It asks
  // for the server by this address, and is told to ask again for as long as something is being sent.
  let sending = false;
  const plainFetch = window.fetch;
  window.fetch = function fetch(input, options) {
    if (sending && new URL(input.url || input, location.href).pathname.endsWith("/app_id")) {
      return Promise.reject(new TypeError("an upload is being sent; the page is loaded anew when it has ended"));
    }
    return plainFetch.call(window, input, options);
  };

  function get(path) { return send(path, null, { method: "GET" }); }

  // ---- the card on the page Data -----------------------------------------------------------------------
  function upload(element, trigger, event) {
    const part = (name) => element.querySelector(`[data-part=${name}]`);
    const box = part("meter");
    let control = null;

    async function run(task) {
      if (control) return;
      control = controls();
      sending = true;
      element.firstElementChild.setAttribute("aria-busy", "true");
      part("offer").hidden = true;
      showRefused([], 0);
      showPaused(false);
      const line = meter(box);
      line.wait = (sentence) => { part("text").textContent = sentence; };
      try {
        const made = await task(line);
        line.done(made.status === "mapping" ? `Sent. Say where the labels of “${made.name}” come from.` : `Sent. What is found in “${made.name}” is shown under its name.`);
        trigger(event, { id: made.id });
      } catch (error) {
        if (!(error instanceof Problem)) console.warn(error);
        if (error.body?.code === "stopped") line.idle();
        else line.fail(error instanceof Problem ? error.message : "The browser could not read these files. Choose them again.");
        trigger(event, { id: error.body?.existing ? String(error.body.existing) : "" });
      } finally {
        control = null;
        sending = false;
        element.firstElementChild.removeAttribute("aria-busy");
        for (const input of element.querySelectorAll("input[type=file]")) input.value = "";
        offer();
      }
    }
    const labels = () => element.querySelector("input[name=labels]").value.trim();
    const ageBand = () => (element.querySelector("input[name=characteristics]").checked ? "5" : "");
    const ask = () => element.querySelector("input[name=ask]").checked;
    function showPaused(paused) {
      box.dataset.paused = paused ? "yes" : "";
      part("pause").textContent = paused ? "Resume" : "Pause";
    }
    function showRefused(refused, number) {
      const list = part("refused");
      list.replaceChildren(...refused.slice(0, SHOWN_REFUSED).map((entry) => {
        const row = document.createElement("li");
        row.append(Object.assign(document.createElement("code"), { textContent: entry.file }), ` ${entry.reason}`);
        return row;
      }));
      part("refused-head").textContent = number > 0 ? `${plural(number, "file")} could not be kept:` : "";
    }

    async function remove(id) {
      forget(id);
      for (const wait of [0, 1000, 3000]) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        try {
          await send(`/datasets/${encodeURIComponent(id)}`, null, { method: "DELETE" });
          return;
        } catch (error) {
          if (error.status >= 400 && error.status < 500) return; // gone already, or in use after all
        }
      }
    }

    // Finds the unfinished upload of these very files, or begins one; says what of it has arrived.
    async function beginOrGoOn(files, mark, name, line) {
      for (const entry of remembered().filter((known) => known.mark === mark)) {
        try {
          const there = await steadily(control, line, () => get(`/datasets/${encodeURIComponent(entry.dataset)}/arrived`));
          if (there.status === "receiving") {
            const change = new FormData();
            change.append("age_band", ageBand());
            if (labels()) change.append("labels", labels());
            await send(`/datasets/${encodeURIComponent(entry.dataset)}/files`, change);
            return there;
          }
        } catch (error) {
          if (error.status !== 404) throw error;
        }
        forget(entry.dataset);
      }
      const start = new FormData();
      start.append("finish", "false");
      if (name) start.append("name", name);
      if (labels()) start.append("labels", labels());
      start.append("age_band", ageBand());
      const { id } = await send("/datasets", start);
      const zip = files.length === 1 && /\.zip$/i.test(files[0].path);
      remember([...remembered(), { mark, dataset: id, zip, files: files.length, bytes: bytesOf(files) }]);
      return { id, taken: [], unfinished: [] };
    }

    async function sendFiles(files, name, line) {
      const total = bytesOf(files);
      const there = await beginOrGoOn(files, fingerprint(files), name, line);
      const { id } = there;
      const path = `/datasets/${encodeURIComponent(id)}`;
      trigger(event, { id });
      try {
        const taken = new Set(there.taken);
        const known = new Map(there.unfinished.map((entry) => [entry.key, entry]));
        let sent = 0, bytes = 0;
        const refused = [];
        for (const unit of units(files)) {
          if (taken.has(unit.key)) { sent += unit.items.length; bytes += unit.weight; continue; }
          const before = known.get(unit.key);
          if (before && before.length === unit.body.size) unit.url = before.url;
          const onBytes = (now) => {
            if (control?.paused) return;
            line.show((bytes + Math.min(now, unit.weight)) / (total || 1),
              `${count(sent)} of ${plural(files.length, "file")} arrived · ${megabytes(Math.min(total, bytes + now))} of ${megabytes(total)} sent`);
          };
          onBytes(before && unit.url ? Math.max(0, before.offset - unit.head) : 0);
          try {
            await steadily(control, line, () => transfer(unit, control, { dataset: id, total, onBytes }));
            sent += unit.items.length;
          } catch (error) {
            if (error.body?.code !== "unsafe-name") throw error;
            refused.push({ file: unit.path, reason: error.message });
          }
          bytes += unit.weight;
        }
        const now = await steadily(control, line, () => get(`${path}/arrived`));
        showRefused([...refused, ...now.refused], refused.length + now.refused_count);
        line.show(1, `${plural(now.files, "file")} arrived · ${megabytes(now.bytes)}`);
        // What was begun and lost its sender, such as a request whose answer never came, holds nothing that is missing.
        for (const upload of now.unfinished) await steadily(control, line, () => tus.Upload.terminate(upload.url));
        const made = await finish(id, line);
        forget(id);
        return made;
      } catch (error) {
        if (error.body?.code === "stopped") await remove(id);
        // Refused at its end (4xx): the server itself has removed what it cannot use. Anything else can be gone on with.
        else if (error.ended) forget(id);
        throw error;
      }
    }
    async function finish(id, line) {
      const path = `/datasets/${encodeURIComponent(id)}`;
      let asked = false;
      try {
        return await steadily(control, line, async () => {
          if (asked) { // the answer was lost: it may be finished already
            const dataset = await get(path);
            if (dataset.status !== "receiving") return dataset;
          }
          asked = true;
          return send(`${path}/finish${ask() ? "?ask=true" : ""}`, null, { signal: control.signal });
        });
      } catch (error) {
        error.ended = error.status >= 400 && error.status < 500 && error.body?.code !== "uploads-unfinished";
        throw error;
      }
    }
    function sendFolder(found, line) {
      const files = found.filter((item) => wanted(item.path));
      if (!files.length) {
        throw new Problem("This folder holds no files. Choose the folder that holds one sub-folder of images for each class.");
      }
      return sendFiles(files, files[0].path.includes("/") ? files[0].path.split("/")[0] : "", line);
    }
    function take(given) {
      run(async (line) => {
        const found = await given;
        const zip = zipOf(found);
        return zip ? sendFiles([zip], zip.file.name.replace(/\.zip$/i, ""), line) : sendFolder(found, line);
      });
    }

    // Offers to go on with what an earlier visit did not send to its end.
    async function offer() {
      for (const entry of remembered()) {
        const there = await get(`/datasets/${encodeURIComponent(entry.dataset)}/arrived`).catch((error) => error);
        if (there instanceof Error ? there.status === 404 : there.status !== "receiving") { forget(entry.dataset); continue; }
        if (control || there instanceof Error) return;
        part("offer-text").textContent = `“${there.name}” was not sent to its end. Choose the ${entry.zip ? "zip" : "folder"} again to go on: `
          + `${count(there.files)} of ${plural(entry.files, "file")} have arrived (${megabytes(there.bytes)} of ${megabytes(entry.bytes)}).`;
        part("offer").dataset.dataset = entry.dataset;
        part("offer").dataset.zip = entry.zip ? "yes" : "";
        part("offer").hidden = false;
        return;
      }
      part("offer").hidden = true;
    }
    part("again").addEventListener("click", () => part(part("offer").dataset.zip ? "zip" : "folder").click());
    part("discard").addEventListener("click", async () => {
      await remove(part("offer").dataset.dataset);
      trigger(event, { id: "" });
      offer();
    });
    part("folder").addEventListener("change", (change) => take([...change.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }))));
    part("zip").addEventListener("change", (change) => { if (change.target.files.length) take([{ file: change.target.files[0], path: change.target.files[0].name }]); });
    part("stop").addEventListener("click", () => control?.stop());
    part("pause").addEventListener("click", () => {
      if (!control) return;
      if (control.paused) { showPaused(false); control.resume(); return; }
      control.pause();
      showPaused(true);
      part("text").textContent = `Paused. ${part("text").textContent.split(" · about ")[0]}`;
    });
    dropZone(part("zone"), take);
    offer();
  }

  window.studio.upload = upload;
})();
