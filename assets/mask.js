// The tool that covers text in pictures, on the page Data: draw rectangles, step through images, send them to the API.
(() => {
  "use strict";
  const { API, Problem, ask, plural } = window.studio.tools;
  const LEAST = 0.004; // a click without a drag draws nothing
  const EDGES = [["left", "Left"], ["top", "Top"], ["width", "Width"], ["height", "Height"]];
  const UNANSWERED = "The server does not answer. Check that it is running, then try again.";

  async function call(path, body) {
    let answer;
    try {
      answer = await fetch(API + path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    } catch {
      throw new Problem(UNANSWERED);
    }
    const found = await answer.json().catch(() => null);
    if (!answer.ok || !found) throw new Problem((found && (found.detail || found.title)) || UNANSWERED, found, answer.status);
    return found;
  }
  const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
  const percent = (share) => String(Math.round(share * 1000) / 10);

  function open(tool, trigger, event) {
    const part = (name) => tool.querySelector(`[data-part=${name}]`);
    const dataset = tool.dataset.mask;
    let items = JSON.parse(tool.dataset.items);
    const drawn = new Map(); // number of an image: its rectangles, in shares of width and height
    let place = 0, covered = 0, busy = false, drawing = null;
    const now = () => items[place];
    const rectangles = () => drawn.get(now().number) || [];
    const say = (sentence) => { part("said").textContent = sentence; part("alert").textContent = ""; };
    const fail = (error) => { part("alert").textContent = error instanceof Problem ? error.message : UNANSWERED; part("said").textContent = ""; };

    function paint() {
      part("boxes").replaceChildren(...rectangles().map((box, index) => {
        const node = document.createElement("div");
        node.className = "mask-box";
        if (box.suggested) node.dataset.suggested = "";
        for (const [edge] of EDGES) node.style[edge] = `${box[edge] * 100}%`;
        node.append(Object.assign(document.createElement("span"), { textContent: index + 1 }));
        return node;
      }));
      part("none").hidden = rectangles().length > 0;
      part("undo").disabled = part("cover").disabled = busy || !rectangles().length;
    }
    function list() {
      part("list").replaceChildren(...rectangles().map((box, index) => {
        const row = document.createElement("li");
        const group = document.createElement("fieldset");
        const legend = document.createElement("legend");
        legend.textContent = `Rectangle ${index + 1}${box.suggested ? ", suggested" : ""}`;
        group.append(legend);
        for (const [edge, word] of EDGES) {
          const label = document.createElement("label");
          const field = Object.assign(document.createElement("input"), { type: "number", min: "0", max: "100", step: "0.1", value: percent(box[edge]) });
          field.addEventListener("input", () => {
            if (field.value === "" || !Number.isFinite(field.valueAsNumber)) return;
            box[edge] = clamp(field.valueAsNumber / 100);
            box.suggested = false;
            legend.textContent = `Rectangle ${index + 1}`;
            paint();
          });
          label.append(word, field);
          group.append(label);
        }
        const remove = Object.assign(document.createElement("button"), { type: "button", className: "button button-quiet button-small", textContent: "Remove" });
        remove.setAttribute("aria-label", `Remove rectangle ${index + 1}`);
        remove.addEventListener("click", () => { rectangles().splice(index, 1); refresh(); part("add").focus(); });
        group.append(remove);
        row.append(group);
        return row;
      }));
    }
    const refresh = () => { list(); paint(); };

    async function show() {
      const item = now();
      part("file").textContent = item.file;
      part("facts").textContent = `Image ${place + 1} of ${items.length} · ${item.label} · ${item.width} × ${item.height} pixels · ${item.reason}`;
      const image = part("image");
      image.alt = `Image ${item.file}`;
      image.src = item.url;
      const stage = part("stage");
      const enlarged = Math.min(3 * item.width, Math.max(item.width, 720));
      stage.style.aspectRatio = `${item.width} / ${item.height}`;
      stage.style.width = `min(100%, ${enlarged}px, ${Math.round((0.7 * window.innerHeight * item.width) / item.height)}px)`;
      part("back").disabled = place === 0;
      part("on").disabled = place === items.length - 1;
      const all = part("all");
      all.hidden = item.same_size < 2;
      part("all-label").textContent = `All ${item.same_size} images on this list of the same size`;
      if (all.hidden) tool.querySelector("[name=mask-scope][value=image]").checked = true;
      refresh();
      if (drawn.has(item.number)) return;
      drawn.set(item.number, []);
      refresh();
      try {
        const found = await call(`/datasets/${encodeURIComponent(dataset)}/images/${item.number}/text`);
        const boxes = found.rectangles.map((box) => ({
          left: box.left / found.width, top: box.top / found.height,
          width: (box.right - box.left) / found.width, height: (box.bottom - box.top) / found.height, suggested: true,
        }));
        drawn.set(item.number, [...boxes, ...(drawn.get(item.number) || [])]);
        if (now() === item) refresh();
      } catch (error) {
        fail(error);
      }
    }
    function step(by) { place = clamp(place + by, 0, items.length - 1); say(""); show(); }

    function leave() { trigger(event, { action: "masked", covered: String(covered) }); }

    async function cover() {
      const item = now();
      const scope = tool.querySelector("[name=mask-scope]:checked").value;
      const boxes = rectangles().filter((box) => box.width > 0 && box.height > 0);
      if (!boxes.length) { fail(new Problem("No rectangle has a width and a height. Draw one over the text.")); return; }
      const many = scope === "same-size" ? item.same_size : 1;
      const question = `Cover ${plural(boxes.length, "rectangle")} in ${plural(many, "image")} for good? What stands there is overwritten in the stored ${many === 1 ? "file" : "files"} and cannot be brought back.`;
      if (!(await ask(question, "Cover for good", "Cancel"))) return;
      busy = true;
      paint();
      say(`Covering ${plural(many, "image")} …`);
      try {
        const made = await call(`/datasets/${encodeURIComponent(dataset)}/masks`, {
          image: item.number,
          scope,
          rectangles: boxes.map((box) => ({
            left: Math.floor(clamp(box.left) * item.width), top: Math.floor(clamp(box.top) * item.height),
            right: Math.ceil(clamp(box.left + box.width) * item.width), bottom: Math.ceil(clamp(box.top + box.height) * item.height),
          })),
        });
        covered += made.images;
        drawn.clear();
        items = (await call(`/datasets/${encodeURIComponent(dataset)}/text`)).items;
        busy = false;
        if (!items.length) { leave(); return; }
        place = clamp(place, 0, items.length - 1);
        await show();
        const refused = made.refused.length ? ` ${plural(made.refused.length, "image")} could not be covered: ${made.refused[0].file}: ${made.refused[0].reason}.` : "";
        say(`${plural(made.images, "image")} covered; ${plural(items.length, "image")} left to look at.${refused}`);
      } catch (error) {
        busy = false;
        paint();
        fail(error);
      }
    }

    // ---- drawing with mouse, pen or finger; the fields are the way by keyboard ----
    const stage = part("stage");
    const at = (move) => {
      const frame = stage.getBoundingClientRect();
      return { x: clamp((move.clientX - frame.left) / frame.width), y: clamp((move.clientY - frame.top) / frame.height) };
    };
    stage.addEventListener("pointerdown", (press) => {
      if (busy || press.button !== 0) return;
      press.preventDefault();
      stage.setPointerCapture(press.pointerId);
      const start = at(press);
      drawing = { start, box: { left: start.x, top: start.y, width: 0, height: 0, suggested: false } };
      drawn.set(now().number, [...rectangles(), drawing.box]);
    });
    stage.addEventListener("pointermove", (move) => {
      if (!drawing) return;
      const { x, y } = at(move);
      const { start, box } = drawing;
      Object.assign(box, { left: Math.min(x, start.x), top: Math.min(y, start.y), width: Math.abs(x - start.x), height: Math.abs(y - start.y) });
      paint();
    });
    const ended = () => {
      if (!drawing) return;
      const { box } = drawing;
      drawing = null;
      if (box.width < LEAST || box.height < LEAST) drawn.set(now().number, rectangles().filter((other) => other !== box));
      refresh();
    };
    stage.addEventListener("pointerup", ended);
    stage.addEventListener("pointercancel", ended);
    part("back").addEventListener("click", () => step(-1));
    part("on").addEventListener("click", () => step(1));
    part("undo").addEventListener("click", () => { rectangles().pop(); refresh(); });
    part("add").addEventListener("click", () => {
      rectangles().push({ left: 0, top: 0, width: 1, height: 0.1, suggested: false });
      refresh();
      part("list").lastElementChild.querySelector("input").focus();
    });
    part("cover").addEventListener("click", cover);
    tool.querySelector("[data-action=masked]").addEventListener("click", (click) => { click.currentTarget.dataset.covered = String(covered); });
    show();
  }

  function masks(element, trigger, event) {
    const look = () => {
      const tool = element.querySelector("[data-mask]");
      if (tool && !tool.dataset.open) {
        tool.dataset.open = "yes";
        open(tool, trigger, event);
        tool.scrollIntoView({ block: "start" });
      }
    };
    new MutationObserver(look).observe(element, { childList: true, subtree: true });
    look();
  }
  window.studio.masks = masks;
})();
