// The page Account, and the dialog that shares a data set or a model: requests go from here straight to the API, so that
// no password and no token passes through the events of a page.
(() => {
  "use strict";
  const { API, Problem, ask } = window.studio.tools;

  async function call(method, path, body) {
    let answer;
    try {
      answer = await fetch(API + path, {
        method,
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw new Problem("The server does not answer. Check that it is running, then try again.");
    }
    const found = answer.status === 204 ? null : await answer.json().catch(() => null);
    if (answer.ok) return found;
    if (answer.status === 401 && found?.code === "sign-in-needed") location.href = "login";
    throw new Problem(found?.detail || `The server could not do this (answer ${answer.status}).`, found, answer.status);
  }

  function valuesOf(form) {
    const body = {};
    for (const [name, value] of new FormData(form)) {
      if (name === form.dataset.list) continue;
      body[name] = name === form.dataset.number ? Number(value) : value;
    }
    if (form.dataset.list) body[form.dataset.list] = new FormData(form).getAll(form.dataset.list);
    return body;
  }

  // A token is shown once: it stays until the page is left or another one is made.
  function showSecret(box, secret) {
    const text = document.createElement("p");
    text.textContent = "Copy the token now. It is not shown again.";
    const code = Object.assign(document.createElement("code"), { textContent: secret, tabIndex: 0 });
    const copy = Object.assign(document.createElement("button"), { type: "button", className: "button button-quiet button-small", textContent: "Copy" });
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(secret); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren(code); }
    });
    box.replaceChildren(text, code, copy);
  }

  function account(element, trigger, event) {
    // A list is drawn anew after every action; why the last one was refused stays above it until the next.
    let refused = "";
    const ofList = () => element.querySelector("section > [data-part=alert]");
    new MutationObserver(() => {
      const place = ofList();
      if (place && place.textContent !== refused) place.textContent = refused;
    }).observe(element, { childList: true, subtree: true });
    const say = (near, sentence) => {
      const own = near.querySelector("[data-part=alert]");
      if (!own) refused = sentence;
      const place = own || ofList();
      if (place) place.textContent = sentence;
    };
    async function carryOut(near, words, body, done) {
      const [method, path] = words.split(" ");
      say(near, "");
      try {
        const answer = await call(method, path, body);
        done?.(answer);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        say(near, error.message);
        if (near.tagName === "FORM") return; // what stands in it can be mended
        if (near.tagName === "SELECT") for (const option of near.options) option.selected = option.defaultSelected;
      }
      trigger(event, {});
    }
    element.addEventListener("submit", async (submit) => {
      submit.preventDefault();
      const form = submit.target;
      const button = form.querySelector("[type=submit]");
      button.disabled = true;
      await carryOut(form, form.dataset.call, valuesOf(form), (answer) => {
        form.reset();
        if (form.dataset.then === "login") location.href = "login";
        if (form.dataset.then === "secret") showSecret(element.querySelector("[data-part=secret]"), answer.secret);
      });
      button.disabled = false;
    });
    element.addEventListener("click", async (click) => {
      const target = click.target.closest("button[data-call]");
      if (!target) return;
      const { call: words, confirm: question, confirmLabel, body } = target.dataset;
      if (question && !(await ask(question, confirmLabel))) return;
      await carryOut(target, words, body && JSON.parse(body));
    });
    element.addEventListener("change", async (change) => {
      const target = change.target.closest("select[data-call]");
      if (target) await carryOut(target, target.dataset.call, { [target.name]: target.value });
    });
  }

  // ---- sharing ---------------------------------------------------------------------------------
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const LEVELS = {
    dataset: { view: "may look and train", edit: "may also change it" },
    model: { view: "may look and classify", edit: "may also change it" },
  };
  const HINTS = {
    dataset: "Whoever may look sees the images and may train on them. Models are shared on the page Models.",
    model: "Whoever may look sees the results and may classify with it. The images it was tested on are shown to those with whom the data set is shared.",
  };

  async function shareDialog({ share: kind, id, name }, opener) {
    const address = `/shares/${kind}/${encodeURIComponent(id)}`;
    const dialog = make("dialog", { className: "ask share" });
    const title = make("h2", { textContent: `Share “${name}”`, id: "share-title" });
    dialog.setAttribute("aria-labelledby", title.id);
    const list = make("ul");
    const problem = make("p", { className: "account-problem" });
    problem.setAttribute("role", "alert");
    const person = make("select", { id: "share-person" });
    const level = make("select", { id: "share-level" }, ...Object.entries(LEVELS[kind]).map(([value, textContent]) => make("option", { value, textContent })));
    const send = make("button", { type: "submit", className: "button button-primary", textContent: "Share" });
    const form = make("form", { className: "share-form", noValidate: true },
      make("div", { className: "field" }, make("label", { htmlFor: person.id, textContent: "With" }), person),
      make("div", { className: "field" }, make("label", { htmlFor: level.id, textContent: "Who" }), level), send);
    const close = make("button", { type: "button", className: "button button-quiet", textContent: "Close" });
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { dialog.remove(); opener.isConnected && opener.focus(); });
    dialog.append(title, make("p", { className: "hint", textContent: HINTS[kind] }), list, form, problem, make("div", { className: "ask-buttons" }, close));

    async function refresh() {
      const [shares, people, me] = await Promise.all([call("GET", address), call("GET", "/people"), call("GET", "/me")]);
      list.replaceChildren(...shares.map((share) => {
        const remove = make("button", { type: "button", className: "button button-quiet button-small", textContent: "Take back" });
        remove.setAttribute("aria-label", `Take back from ${share.name}`);
        remove.addEventListener("click", () => carry(() => call("DELETE", `${address}/${share.id}`)));
        return make("li", {}, make("span", {}, make("b", { textContent: share.name }), ` ${LEVELS[kind][share.level]}`), remove);
      }));
      if (!shares.length) list.replaceChildren(make("li", { className: "hint", textContent: "It is shared with nobody." }));
      person.replaceChildren(...people.filter((one) => one.id !== me.id).map((one) => make("option", { value: one.id, textContent: one.name })));
      send.disabled = !person.options.length;
    }
    async function carry(task) {
      problem.textContent = "";
      try { await task(); await refresh(); } catch (error) { problem.textContent = error instanceof Problem ? error.message : String(error); }
    }
    form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      carry(() => call("PUT", address, { user_id: person.value, level: level.value }));
    });
    document.body.append(dialog);
    dialog.showModal();
    await carry(async () => {});
  }
  document.addEventListener("click", (click) => {
    const target = click.target.closest("[data-share]");
    if (target) shareDialog(target.dataset, target);
  });

  window.studio.account = account;
})();
